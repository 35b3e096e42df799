import type { DeletionReport } from '../../objects/deletion-report.ts';
import type { ListedOrphan } from './list-file.ts';
import type { OrphanState } from './look.ts';
import type { PageOutcome } from './progress-file.ts';

/** A page of a list while it is worked on: each of its keys ends as deleted, spared or failed. */
export class OrphanPage {
  readonly #left: Map<string, ListedOrphan>;
  /** Keys that S3 was asked for without a known outcome: one that is gone was deleted by us. */
  readonly #asked: Set<string>;
  #deleted: number;
  #bytes: number;
  readonly #spared: Map<string, number>;
  readonly #failed: { readonly key: string; readonly code: string }[] = [];

  /**
   * @param before of an earlier command: then only what failed is left.
   * @param asked what an earlier command has asked for without writing down what became of it.
   */
  constructor(
    orphans: readonly ListedOrphan[],
    before: PageOutcome | undefined,
    asked: ReadonlySet<string>,
  ) {
    const failed = new Set(before?.failed.map(({ key }) => key));
    const left = before === undefined ? orphans : orphans.filter(({ key }) => failed.has(key));
    this.#left = new Map(left.map((orphan) => [orphan.key, orphan]));
    this.#asked = new Set(asked);
    this.#deleted = before?.deleted ?? 0;
    this.#bytes = before?.bytes ?? 0;
    this.#spared = new Map(Object.entries(before?.spared ?? {}));
  }

  /** What has not come to its end, in the order of the list. */
  get left(): readonly ListedOrphan[] {
    return [...this.#left.values()];
  }

  /**
   * Ends the keys whose object is not as it was listed; returns the others, and those that have gone since they were
   * asked for.
   */
  sortOut(states: ReadonlyMap<string, OrphanState>): {
    readonly candidates: readonly string[];
    readonly wentBefore: readonly string[];
  } {
    const candidates: string[] = [];
    const wentBefore: string[] = [];
    for (const { key } of this.left) {
      const state = states.get(key);
      if (state === 'unchanged') candidates.push(key);
      else if (state === 'gone' && this.#asked.has(key)) {
        this.#delete(key);
        wentBefore.push(key);
      } else if (state === 'changed' || state === 'gone') this.#spare(key, state);
      else this.#fail(key, 'AccessDenied');
    }
    return { candidates, wentBefore };
  }

  spare(keys: readonly { readonly key: string; readonly reason: string }[]): void {
    for (const { key, reason } of keys) this.#spare(key, reason);
  }

  noteAsked(keys: readonly string[]): void {
    for (const key of keys) this.#asked.add(key);
  }

  /** Ends what the store answered for. Returns why others of the request are to be asked for again, if there are any. */
  settle({ deleted, failures }: DeletionReport): DeletionReport['failures'][number] | undefined {
    for (const key of deleted) this.#delete(key);
    for (const { key, code, outcome } of failures) {
      if (outcome === 'refused') this.#fail(key, code);
    }
    return failures.find(({ outcome }) => outcome !== 'refused');
  }

  /** Ends all that is left. */
  fail(code: string): void {
    for (const { key } of this.left) this.#fail(key, code);
  }

  outcome(): PageOutcome {
    return {
      deleted: this.#deleted,
      bytes: this.#bytes,
      spared: Object.fromEntries(this.#spared),
      failed: this.#failed,
    };
  }

  #delete(key: string): void {
    const orphan = this.#left.get(key);
    if (orphan === undefined) return;
    this.#left.delete(key);
    this.#deleted += 1;
    this.#bytes += orphan.bytes;
  }

  #spare(key: string, reason: string): void {
    if (this.#left.delete(key)) this.#spared.set(reason, (this.#spared.get(reason) ?? 0) + 1);
  }

  #fail(key: string, code: string): void {
    if (this.#left.delete(key)) this.#failed.push({ key, code });
  }
}
