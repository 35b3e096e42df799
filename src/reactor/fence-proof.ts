import { MILLISECONDS } from '../lifecycle/duration.ts';
import type { FenceJudgement } from '../store/fence.ts';

/** How often, and for how long; in milliseconds. */
export interface FenceTimes {
  /** How old the last renewal becomes before the next. */
  readonly renew: number;
  /** How long after a renewal batches may be claimed. */
  readonly valid: number;
  /** How long a token must stay as it is before one takes it over; longer than `valid`. */
  readonly watch: number;
}

/**
 * Who may claim has seen a renewal of the last 75 s. Who takes the fence over has watched it for 90 s, so that
 * no other process may claim by then. Ten minutes of two databases are twenty renewals.
 */
export const FENCE_TIMES: FenceTimes = {
  renew: 30 * MILLISECONDS.second,
  valid: 75 * MILLISECONDS.second,
  watch: 90 * MILLISECONDS.second,
};

/** What is read of the object; the database judges the rest. */
export interface FenceContent {
  readonly token?: string;
  /** Who wrote it claims nothing any more. */
  readonly released?: boolean;
}

/** So many tokens a process remembers: of about three minutes, which is what a failover may lose. */
const REMEMBERED = 6;

/** Two listeners that see the same old token: the second leaves the renewal to the first for so long. */
const LEAVE_TO_ANOTHER_SECONDS = 10;

/**
 * Whether this process may claim. A token that is merely known may be known to a copy too: so either this database
 * was seen to renew it, or no process did for long, or the last one said that it stops.
 */
export class FenceProof {
  readonly #times: FenceTimes;
  #isProven = false;
  #validUntil = -Infinity;
  #remembered: readonly string[] = [];
  /** The token that is watched, and since when. */
  #watched: { readonly token: string; readonly since: number } | undefined;
  /** The last token that was written down here when the watch began. */
  #baseline: number | undefined;

  constructor(times: FenceTimes) {
    this.#times = times;
  }

  /** The tokens that were seen as this database's, or written by this process. */
  get remembered(): readonly string[] {
    return this.#remembered;
  }

  isHeld(now: number): boolean {
    return this.#isProven && now < this.#validUntil;
  }

  /** By the clock of `isHeld`. */
  get heldUntil(): number {
    return this.#isProven ? this.#validUntil : -Infinity;
  }

  remember(token: string): void {
    const others = this.#remembered.filter((it) => it !== token);
    this.#remembered = [token, ...others].slice(0, REMEMBERED);
  }

  /** Another database has it. */
  lose(): void {
    this.#isProven = false;
    this.#validUntil = -Infinity;
    this.#watched = undefined;
    this.#baseline = undefined;
  }

  /**
   * What to do about a token of this database that was read at `now`: renew it, leave it as it is, or watch it and
   * claim nothing.
   */
  see(judged: FenceJudgement, content: FenceContent, now: number): 'renew' | 'leave' | 'watch' {
    const { token = '', released = false } = content;
    this.remember(token);
    if (!this.#isProven) {
      this.#baseline ??= judged.newest ?? 0;
      const isRenewedHere = (judged.place ?? 0) > this.#baseline;
      const isLeft =
        this.#watched?.token === token && now - this.#watched.since >= this.#times.watch;
      if (!isRenewedHere && !isLeft && !released) {
        if (this.#watched?.token !== token) this.#watched = { token, since: now };
        return 'watch';
      }
      this.#isProven = true;
      if (!isRenewedHere) return 'renew';
    }
    if (released || judged.moved || this.#isOld(judged)) return 'renew';
    this.#validUntil = now - (judged.renewed ?? Infinity) * 1_000 + this.#times.valid;
    return 'leave';
  }

  /** It was renewed by a request that was sent at `sentAt`. */
  renewed(sentAt: number): void {
    this.#isProven = true;
    this.#validUntil = sentAt + this.#times.valid;
  }

  /** It was taken from another database, which may claim until its own last look is over. */
  taken(token: string, newest: number, now: number): void {
    this.lose();
    this.#watched = { token, since: now };
    this.#baseline = newest;
  }

  #isOld({ renewed, tried }: FenceJudgement): boolean {
    const leave = Math.min(LEAVE_TO_ANOTHER_SECONDS, this.#times.renew / 3_000);
    return (renewed ?? Infinity) * 1_000 > this.#times.renew * 0.8 && (tried ?? Infinity) > leave;
  }
}
