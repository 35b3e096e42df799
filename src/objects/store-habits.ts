import { MAX_KEYS_PER_REQUEST } from './deletion-report.ts';

/** What the store of a bucket does otherwise than S3; keys as in the database. What is absent is as in S3. */
export interface StoreHabits {
  /** The most keys of one request that it takes. */
  readonly keys_per_request?: number | undefined;
  /** The most keys of one request that it deletes before the request times out. */
  readonly keys_in_time?: number | undefined;
  /** `singly`: it has no DeleteObjects that works. */
  readonly deletes?: 'together' | 'singly' | undefined;
  /** What a DeleteObjects request carries. */
  readonly checksum?: 'crc32' | 'md5' | 'none' | undefined;
  readonly addressing?: 'path' | 'virtual' | undefined;
  /** Whether it deletes the version of an etag and no other; `refused`: it deletes nothing with an etag. */
  readonly conditional?: 'honoured' | 'ignored' | 'refused' | undefined;
}

/** What a call has learned of a store. */
export interface LearnedHabits {
  /** Null: the habit is over. */
  readonly habits: { readonly [Name in keyof StoreHabits]: StoreHabits[Name] | null };
  /** What showed it, for people. */
  readonly because: string;
}

/** The habits that are known when a call begins, and what it learns. Learning applies at once. */
export class CallHabits {
  #known: StoreHabits;
  readonly #learned = new Map<keyof StoreHabits, unknown>();
  readonly #reasons: string[] = [];

  constructor(known: StoreHabits = {}) {
    this.#known = known;
  }

  get known(): StoreHabits {
    return this.#known;
  }

  /** How many keys one request may have. */
  get mostKeys(): number {
    const { keys_per_request: taken, keys_in_time: inTime } = this.#known;
    return Math.max(1, Math.min(taken ?? MAX_KEYS_PER_REQUEST, inTime ?? MAX_KEYS_PER_REQUEST));
  }

  /** Undefined: nothing. */
  get learned(): LearnedHabits | undefined {
    if (this.#learned.size === 0) return undefined;
    return { habits: Object.fromEntries(this.#learned), because: this.#reasons.join('; ') };
  }

  learn<Name extends keyof StoreHabits>(
    name: Name,
    value: NonNullable<StoreHabits[Name]> | null,
    because: string,
  ): void {
    if ((this.#known[name] ?? null) === value) return;
    this.#known = { ...this.#known, [name]: value ?? undefined };
    this.#learned.set(name, value);
    this.#reasons.push(because);
  }
}

const REMEMBERED_MILLISECONDS = 24 * 60 * 60 * 1_000;

/** What a process has learned by itself, for calls that are given no habits. Forgotten after a day. */
export class HabitMemory {
  readonly #buckets = new Map<string, { readonly habits: StoreHabits; readonly until: number }>();

  of(bucket: string): StoreHabits {
    const kept = this.#buckets.get(bucket);
    return kept === undefined || performance.now() > kept.until ? {} : kept.habits;
  }

  note(bucket: string, habits: StoreHabits): void {
    this.#buckets.set(bucket, { habits, until: performance.now() + REMEMBERED_MILLISECONDS });
  }
}
