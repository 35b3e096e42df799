import { ObjectStoreError } from '../store-failure.ts';
import type { CallHabits } from '../store-habits.ts';
import { MAX_KEYS_PER_REQUEST } from '../deletion-report.ts';
import { isOfContent, isTooSlow } from './failures.ts';

/** A target whose request was refused although it was alone in it. */
export interface RefusedAlone<Target> {
  readonly target: Target;
  readonly error: ObjectStoreError;
}

/** What came of sending targets in as many requests as the store wants. */
export interface SentInParts<Target> {
  /** Whether any request was taken. */
  readonly taken: boolean;
  readonly refused: readonly RefusedAlone<Target>[];
  /** Not sent, or sent without an answer: what ended the call before all were done, and these. */
  readonly stopped:
    | { readonly error: ObjectStoreError; readonly targets: readonly Target[] }
    | undefined;
}

/** So many are refused one by one before the request itself is taken for the cause. */
const MOST_REFUSED_IN_ROW = 8;

/** A store that has become fast again is given more, but not all at once. */
const GROWTH = 8;
const SHARE_OF_TIMEOUT = 0.25;

/**
 * Sends targets in requests of at most as many as the store is known to take. Refused for what it holds, a request
 * is halved until a part is taken: either that is as much as the store takes, which is learned, or one of the
 * targets is the cause, which ends alone. Sent to the end one part after the other, so what was taken is known
 * even if the time runs out.
 *
 * @param send one request; throws {@link ObjectStoreError}.
 * @param again the same for what was taken in smaller parts: a refusal that was none of its size does not come twice.
 * @throws what ends a call before anything was taken or refused.
 */
export async function sendInParts<Target>(
  targets: readonly Target[],
  habits: CallHabits,
  requestTimeoutMilliseconds: number,
  send: (part: readonly Target[]) => Promise<void>,
  again: (part: readonly Target[]) => Promise<unknown>,
): Promise<SentInParts<Target>> {
  const sizes = new Sizes<Target>();
  const refused: RefusedAlone<Target>[] = [];
  let queue = inPartsOf(targets, habits.mostKeys);
  for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
    const startedAt = performance.now();
    try {
      await send(part);
      sizes.take(part);
      const { limit } = sizes;
      if (limit !== undefined) {
        queue = queue.flatMap((it) =>
          it.length < limit.part.length ? [it] : inPartsOf(it, limit.taken),
        );
      }
      const spent = performance.now() - startedAt;
      learnSpeed(habits, part.length, spent, requestTimeoutMilliseconds);
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      if (!isOfContent(error)) {
        if (isTooSlow(error) && part.length > 1) {
          const fewer = Math.ceil(part.length / 2);
          habits.learn('keys_in_time', fewer, `no answer in time for ${part.length} keys`);
        }
        if (!sizes.hasTaken && refused.length === 0) throw error;
        return end({ error, targets: [part, ...queue].flat() });
      }
      const [only] = part;
      if (only !== undefined && part.length === 1) {
        refused.push({ target: only, error });
        if (!sizes.hasTaken && refused.length >= MOST_REFUSED_IN_ROW && queue.length > 0) {
          return end({ error, targets: queue.flat() });
        }
        if (!sizes.hasTaken) lookElsewhere(queue);
      } else {
        sizes.refuse(part);
        queue.unshift(...inPartsOf(part, Math.ceil(part.length / 2)));
      }
    }
  }
  return end(undefined);

  async function end(stopped: SentInParts<Target>['stopped']): Promise<SentInParts<Target>> {
    const { limit } = sizes;
    if (limit !== undefined && (stopped !== undefined || (await isRefused(limit.part, again)))) {
      const because = `${limit.part.length} keys were refused, ${limit.taken} were taken`;
      habits.learn('keys_per_request', limit.taken, because);
    }
    return { taken: sizes.hasTaken, refused, stopped };
  }
}

async function isRefused<Target>(
  part: readonly Target[],
  again: (part: readonly Target[]) => Promise<unknown>,
): Promise<boolean> {
  try {
    await again(part);
    return false;
  } catch (error) {
    if (!(error instanceof ObjectStoreError)) throw error;
    return true;
  }
}

/** Cuts a list into parts of at most `most`. */
function inPartsOf<Item>(items: readonly Item[], most: number): (readonly Item[])[] {
  if (items.length <= most) return items.length === 0 ? [] : [items];
  const parts: (readonly Item[])[] = [];
  for (let at = 0; at < items.length; at += most) parts.push(items.slice(at, at + most));
  return parts;
}

/** A run of bad keys must not hide the good ones: one from the middle of the longest part goes next. */
function lookElsewhere(queue: (readonly unknown[])[]): void {
  const longest = queue.toSorted((a, b) => b.length - a.length)[0];
  if (longest === undefined || longest.length < 2) return;
  const middle = Math.floor(longest.length / 2);
  const parts = [longest.slice(0, middle), longest.slice(middle + 1)].filter((it) => it.length > 0);
  queue.splice(queue.indexOf(longest), 1, ...parts);
  queue.unshift(longest.slice(middle, middle + 1));
}

/** Which requests were taken and which refused, and what that says of the store. */
class Sizes<Target> {
  readonly #refused: (readonly Target[])[] = [];
  readonly #taken = new Set<Target>();
  readonly #sizesTaken: number[] = [];

  get hasTaken(): boolean {
    return this.#sizesTaken.length > 0;
  }

  take(part: readonly Target[]): void {
    this.#sizesTaken.push(part.length);
    // Kept only once something was refused, which most calls never see.
    if (this.#refused.length > 0) for (const target of part) this.#taken.add(target);
  }

  refuse(part: readonly Target[]): void {
    this.#refused.push(part);
  }

  /** A request whose targets were all taken in smaller ones was refused for how many they were. */
  get limit(): { readonly taken: number; readonly part: readonly Target[] } | undefined {
    if (this.#refused.length === 0) return undefined;
    const tooMany = this.#refused.filter((part) => part.every((it) => this.#taken.has(it)));
    const [part] = tooMany.toSorted((a, b) => a.length - b.length);
    if (part === undefined) return undefined;
    const taken = Math.max(0, ...this.#sizesTaken.filter((size) => size < part.length));
    return taken === 0 ? undefined : { taken, part };
  }
}

function learnSpeed(habits: CallHabits, keys: number, milliseconds: number, timeout: number): void {
  const known = habits.known.keys_in_time;
  if (known === undefined || keys < known) return;
  const bearable = Math.floor((timeout * SHARE_OF_TIMEOUT * keys) / Math.max(milliseconds, 1));
  const more = Math.min(bearable, known * GROWTH);
  if (more <= known) return;
  const because = `${keys} keys took ${Math.round(milliseconds)} ms`;
  habits.learn('keys_in_time', more >= MAX_KEYS_PER_REQUEST ? null : more, because);
}
