import { randomUUID } from 'node:crypto';
import { ClosedError, RefusedError, describeError } from '../errors.ts';
import { sayFailure } from '../failure-words.ts';
import { type AbortableLoop, createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { type Clock, systemClock } from '../lifecycle/clock.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import type { Logger } from '../logger.ts';
import type { ConditionalWrites } from '../objects/abilities.ts';
import { fenceKey } from '../objects/own-keys.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import type { FenceJudgement } from '../store/fence.ts';
import type { Store } from '../store/store.ts';
import { FENCE_TIMES, type FenceContent, FenceProof, type FenceTimes } from './fence-proof.ts';

/** What a fence is made of. */
export interface FenceOptions {
  readonly store: Pick<Store, 'readFence' | 'judgeFence' | 'renewFence' | 'confirmFence'>;
  /** Undefined: the store cannot write on a condition. */
  readonly conditional: ConditionalWrites | undefined;
  /** `s3`: renew one. `none`: this process has none. Undefined: as the database was used before. */
  readonly mode: 's3' | 'none' | undefined;
  /** The bucket that holds it. */
  readonly bucket: string | undefined;
  readonly logger: Logger;
  /** Who renews it, for people. */
  readonly name: string;
  /** Told when claiming may begin (again). */
  readonly onHeld?: () => void;
  readonly times?: FenceTimes;
  readonly clock?: Clock;
}

/** Lets a process claim only while its database is the one that renews the fence. */
export interface Fence {
  /** Whether batches may be claimed now. */
  isHeld(): boolean;
  /** Whether this process has one. */
  isUsed(): boolean;
  /** Why not, in a sentence; undefined: they may. */
  whyNot(): string | undefined;
  /**
   * Until when it is held if nothing renews it, by `safeNow()`: what is asked of S3 is sent before then, for a process
   * that was stopped goes on where it was.
   */
  heldUntil(): number;
  /** Looks once. What S3 refuses is logged, and nothing is held. @throws DatabaseError */
  look(): Promise<void>;
  /** Looks soon. */
  wake(): void;
  /** Goes on looking and renewing until `stop`, which lets the next process begin at once. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /**
   * Waits until it is held.
   *
   * @throws ClosedError when another database has it, or S3 refuses or does not answer.
   */
  hold(signal?: AbortSignal): Promise<void>;
}

/** A lost race is looked at again; more often than this in a row it is none. */
const MOST_RACES = 3;

const RELEASE_MILLISECONDS = 5_000;

const REMEDY_OF_REFUSAL =
  'Allow s3:GetObject and s3:PutObject on its key and s3:ListBucket on the bucket, take a store with conditional ' +
  'writes, or set RETENTION_FENCE=none';

/** Makes the fence of a process. */
export function createFence(options: FenceOptions): Fence {
  return new S3Fence(options);
}

class S3Fence implements Fence {
  readonly #options: FenceOptions;
  readonly #times: FenceTimes;
  readonly #clock: Clock;
  readonly #proof: FenceProof;
  readonly #loop: AbortableLoop;
  #isOff: boolean | undefined;
  #key = '';
  #isTested = false;
  #because = 'the fence in S3 has not been looked at yet';
  #isFinal = false;
  #said = '';
  #wasHeld = false;
  #looking: Promise<void> | undefined;

  constructor(options: FenceOptions) {
    this.#options = options;
    this.#times = options.times ?? FENCE_TIMES;
    this.#clock = options.clock ?? systemClock;
    this.#proof = new FenceProof(this.#times);
    this.#loop = createAbortableLoop({
      name: 'the fence',
      turn: async () => {
        await this.look();
        return this.#interval();
      },
      intervalMilliseconds: () => this.#interval(),
      onError: (error) => {
        // The listener says what the database has.
        options.logger.debug(`The fence could not be looked at: ${describeError(error)}`);
      },
      clock: this.#clock,
    });
  }

  isHeld(): boolean {
    return this.#isOff === true || this.#proof.isHeld(this.#clock.now());
  }

  isUsed(): boolean {
    return this.#isOff === false;
  }

  whyNot(): string | undefined {
    return this.isHeld() ? undefined : this.#because;
  }

  heldUntil(): number {
    return this.#isOff === true ? Infinity : this.#proof.heldUntil;
  }

  wake(): void {
    this.#loop.wake();
  }

  start(): Promise<void> {
    return this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    if (this.#isOff !== false || !this.isHeld()) return;
    // Without it the next process waits, which harms nothing.
    await this.#look(true, AbortSignal.timeout(RELEASE_MILLISECONDS)).catch(() => undefined);
    this.#proof.lose();
  }

  async hold(signal?: AbortSignal): Promise<void> {
    const startedAt = this.#clock.now();
    const patience = this.#times.watch + this.#times.renew;
    for (;;) {
      await this.look();
      if (this.isHeld()) return;
      signal?.throwIfAborted();
      if (this.#isFinal || this.#clock.now() - startedAt > patience) {
        throw new ClosedError(`Nothing was flagged and nothing deleted: ${this.#because}`, {
          remedy: 'See: retention fence show. Or look with --dry-run.',
        });
      }
      await this.#clock.pause(this.#interval(), signal);
    }
  }

  /** One look at a time, for all callers. */
  async look(): Promise<void> {
    this.#looking ??= this.#lookAndSay().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  async #lookAndSay(): Promise<void> {
    if (this.#isOff === undefined) await this.#begin();
    if (this.#isOff !== false) {
      this.#say();
      return;
    }
    try {
      await this.#look(false);
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      this.#refused(error);
    }
    this.#say();
  }

  async #begin(): Promise<void> {
    const { mode, bucket, store, conditional, logger } = this.#options;
    const state = await store.readFence();
    const isUsed = mode === 's3' || (mode === undefined && state.fence_in_use);
    if (mode === 'none' && state.fence_in_use) {
      logger.warning(
        'RETENTION_FENCE is none here, and other processes of this database renew a fence in S3: a copy would not be told',
      );
    }
    if (isUsed && (bucket === undefined || conditional === undefined)) {
      throw new RefusedError(
        bucket === undefined
          ? 'RETENTION_FENCE=s3 keeps an object in the first bucket of S3_RESULT_BUCKET, which names none'
          : 'RETENTION_FENCE=s3 needs an object store with conditional writes',
        { remedy: 'Set S3_RESULT_BUCKET, or RETENTION_FENCE=none.' },
      );
    }
    if (isUsed && state.fence === null) {
      this.#lose(state.because ?? 'this database does not know where it was adopted');
      return;
    }
    this.#key = fenceKey(state.fence ?? '');
    this.#isOff = !isUsed;
  }

  async #look(released: boolean, signal?: AbortSignal): Promise<void> {
    const { store, conditional, bucket = '' } = this.#options;
    for (let races = 0; races < MOST_RACES; races += 1) {
      const startedAt = this.#clock.now();
      const found = await conditional?.readObject(bucket, this.#key, { signal });
      const content = found && parse(found.body);
      const judged = await store.judgeFence({
        object: content,
        bucket,
        remembered: this.#proof.remembered,
      });
      if (judged.standing === 'copy') {
        this.#lose(judged.because ?? 'it may be a copy');
        return;
      }
      if (judged.standing === 'known') {
        const next = this.#proof.see(judged, content ?? {}, startedAt);
        if (next === 'watch')
          this.#wait('it is watched whether another database renews the fence in S3');
        if (next === 'watch' || (next === 'leave' && !released)) return;
      }
      if (await this.#renew(judged, found?.etag, released, signal)) return;
    }
  }

  /** False: another process wrote meanwhile. */
  async #renew(
    judged: FenceJudgement,
    etag: string | undefined,
    released: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { store, conditional, bucket = '', name: by, logger } = this.#options;
    const token = randomUUID();
    const body = await store.renewFence({ token, by, released });
    if (body === undefined) return false;
    this.#proof.remember(token);
    const startedAt = this.#clock.now();
    const key = this.#key;
    if (!(await conditional?.writeObject(bucket, { key, body, instead: etag }, { signal }))) {
      return false;
    }
    const now = this.#clock.now();
    const secondsAgo = (now - startedAt) / 1_000;
    const isAccepted = await store.confirmFence({ token, bucket, by, secondsAgo });
    if (isAccepted) {
      logger.info(
        'The server is on another timeline, and the fence in S3 was as this database left it: accepted',
      );
      this.#options.onHeld?.();
    }
    if (!this.#isTested && !(await this.#test(body, signal))) return true;
    if (judged.standing === 'take') {
      this.#proof.taken(token, (judged.newest ?? 0) + 1, now);
      this.#wait('the fence in S3 was taken, and what had it before may still be at work');
    } else {
      this.#proof.renewed(startedAt);
    }
    return true;
  }

  /** A store that ignores the condition tells no copy. What is written then is what is there. */
  async #test(body: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { conditional, bucket = '' } = this.#options;
    const instead = '"00000000000000000000000000000000"';
    const isIgnored = await conditional?.writeObject(
      bucket,
      { key: this.#key, body, instead },
      { signal },
    );
    this.#isTested = isIgnored === false;
    if (isIgnored === true) {
      this.#lose(
        `RETENTION_FENCE=s3 cannot work: the store of bucket ${bucket} ignores If-Match. ${REMEDY_OF_REFUSAL}`,
      );
    }
    return this.#isTested;
  }

  #lose(because: string): void {
    this.#because = because;
    this.#isFinal = true;
    this.#proof.lose();
  }

  #wait(because: string): void {
    this.#because = `${because}; this takes ${this.#times.watch / 1_000} s at most`;
    this.#isFinal = false;
  }

  /** What was held stays held for as long as it is valid: without an answer of S3 nothing is deleted either. */
  #refused(error: ObjectStoreError): void {
    const { bucket = '' } = this.#options;
    const said = sayFailure(error.code, error.reason);
    const isRefused = error.outcome === 'refused' || /NotImplemented|501|405/u.test(error.code);
    this.#isFinal = isRefused || error.httpStatus === 501;
    this.#because = this.#isFinal
      ? `RETENTION_FENCE=s3 keeps ${this.#key} in bucket ${bucket}, and the store refuses it: ${said}. ${REMEDY_OF_REFUSAL}`
      : `the fence in S3 could not be renewed: ${said}`;
  }

  /** One line for each change. */
  #say(): void {
    const { logger, onHeld } = this.#options;
    const isHeld = this.isHeld();
    const because = isHeld ? '' : this.#because;
    if (because !== this.#said && because !== '') {
      const level = this.#isFinal ? 'error' : 'info';
      logger[level](`Nothing is claimed: ${because}`);
    }
    if (isHeld && !this.#wasHeld) {
      if (this.#said !== '') logger.info('The fence in S3 is renewed: claiming goes on');
      onHeld?.();
    }
    this.#said = because;
    this.#wasHeld = isHeld;
  }

  #interval(): number {
    const { renew, watch } = this.#times;
    if (this.#isOff === true) return 24 * MILLISECONDS.hour;
    return this.isHeld() ? renew : Math.min(renew / 3, watch / 9);
  }
}

/** What is no JSON object holds no token. */
function parse(body: string): FenceContent {
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}
