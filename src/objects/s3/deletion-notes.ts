import type { DeletionReport, KeyEnd } from '../deletion-report.ts';

/** A store that names its requests at length is no reason to keep more than this of a name. */
const LONGEST_NAME = 200;

/** A store without DeleteObjects has a request for each key; a purge may have many more. */
const MOST_REQUESTS = 1_000;

/** What the replies to the requests of one call say beside which keys went. */
export class DeletionNotes {
  readonly #ends = new Map<string, KeyEnd>();
  readonly #requestIds = new Set<string>();

  /** The requests in which the store has deleted something, or has found nothing to delete. */
  get requestIds(): readonly string[] {
    return [...this.#requestIds];
  }

  /** A request did what it was to do, at least in part. */
  noteRequest(id: string | undefined): void {
    if (id === undefined || id === '' || this.#requestIds.size >= MOST_REQUESTS) return;
    this.#requestIds.add(id.slice(0, LONGEST_NAME));
  }

  noteEnd(key: string, end: KeyEnd): void {
    this.#ends.set(key, end);
  }

  noteEnds(ends: ReadonlyMap<string, KeyEnd>): void {
    for (const [key, end] of ends) this.#ends.set(key, end);
  }

  /** What a report on these deleted keys says. */
  toldOf(deleted: readonly string[]): Pick<DeletionReport, 'ends' | 'requestIds'> {
    const ends = new Map<string, KeyEnd>();
    if (this.#ends.size > 0) {
      for (const key of deleted) {
        const end = this.#ends.get(key);
        if (end !== undefined) ends.set(key, end);
      }
    }
    return {
      ...(ends.size === 0 ? {} : { ends }),
      ...(this.#requestIds.size === 0 ? {} : { requestIds: this.requestIds }),
    };
  }
}
