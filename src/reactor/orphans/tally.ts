import type { PageOutcome } from './progress-file.ts';

/** What became of the objects of a list, over all that was done with it so far; the figures add up to `listed`. */
export interface OrphanDeletion {
  readonly bucket: string;
  readonly prefix: string;
  readonly listed: number;
  readonly deleted: number;
  readonly deletedBytes: number;
  /**
   * Those that were left, by reason: changed (looked at before, or by its etag when it was to be deleted), gone (before
   * S3 was asked), has_run, held, kept, in_flight, reserved.
   */
  readonly spared: Readonly<Record<string, number>>;
  /** Those that S3 refused, or did not let be looked at. They are asked for again the next time. */
  readonly failed: number;
  readonly notReached: number;
  /** Whether an earlier command had begun with this list. */
  readonly resumed: boolean;
  /** Where it is written down what was deleted. */
  readonly progressFile: string;
  /** Why it ended before all was reached; undefined: it did not. */
  readonly stopped: { readonly because: string; readonly isRefused: boolean } | undefined;
}

/** What became of the objects of a list, added up over its pages. */
export class OrphanTally {
  deleted = 0;
  bytes = 0;
  failed = 0;
  readonly #spared = new Map<string, number>();

  /** Those that were left, whatever the reason. */
  get spared(): number {
    return [...this.#spared.values()].reduce((all, count) => all + count, 0);
  }

  get all(): number {
    return this.deleted + this.failed + this.spared;
  }

  sparedByReason(): Record<string, number> {
    return Object.fromEntries([...this.#spared].filter(([, count]) => count > 0));
  }

  add(outcome: PageOutcome): void {
    this.#count(outcome, 1);
  }

  /** Of a page that is worked on once more. */
  takeBack(outcome: PageOutcome): void {
    this.#count(outcome, -1);
  }

  /** The sums with a page that is still being worked on; the tally stays as it is. */
  with(outcome: PageOutcome): { deleted: number; spared: number; failed: number } {
    const spared = Object.values(outcome.spared).reduce((all, count) => all + count, 0);
    return {
      deleted: this.deleted + outcome.deleted,
      spared: this.spared + spared,
      failed: this.failed + outcome.failed.length,
    };
  }

  #count(outcome: PageOutcome, sign: 1 | -1): void {
    this.deleted += sign * outcome.deleted;
    this.bytes += sign * outcome.bytes;
    this.failed += sign * outcome.failed.length;
    for (const [reason, count] of Object.entries(outcome.spared)) {
      this.#spared.set(reason, (this.#spared.get(reason) ?? 0) + sign * count);
    }
  }
}
