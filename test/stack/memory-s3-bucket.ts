import { compareUtf8 } from '../../src/objects/utf8-order.ts';
import { MemoryPolicy } from './memory-s3-policy.ts';
import { S3Fault } from './memory-s3-xml.ts';

/** The version id of what was written while a bucket was not versioned. */
export const NULL_VERSION = 'null';

/** One version of an object, linked to the one before it: a list of one costs no list. */
export interface ObjectVersion {
  readonly id: string;
  /** Absent: a delete marker. */
  readonly body: Uint8Array | undefined;
  readonly modified: number;
  retention: Retention | undefined;
  previous: ObjectVersion | undefined;
}

export interface Retention {
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE';
  readonly until: number;
}

/** What deleting said, in the terms of S3's reply. */
export interface Removal {
  readonly versionId: string | undefined;
  readonly deleteMarker: boolean;
}

export type Versioning = 'Off' | 'Enabled' | 'Suspended';

/** A bucket in memory. Lean per object; keys are sorted only when someone lists them. */
export class MemoryBucket {
  readonly name: string;
  readonly owner: string;
  readonly created = Date.now();
  /** Lifecycle, policy and the like, as they were put. */
  readonly documents = new Map<string, string>();
  versioning: Versioning = 'Off';
  policy = new MemoryPolicy();
  readonly #objects = new Map<string, ObjectVersion>();
  #sorted: string[] | undefined;
  #versions = 0;

  constructor(name: string, owner: string) {
    this.name = name;
    this.owner = owner;
  }

  get isEmpty(): boolean {
    return this.#objects.size === 0;
  }

  /** How many keys have a current version that is no delete marker. */
  countObjects(): number {
    if (this.versioning === 'Off') return this.#objects.size;
    let count = 0;
    for (const version of this.#objects.values()) if (version.body) count += 1;
    return count;
  }

  put(key: string, body: Uint8Array, retention?: Retention): ObjectVersion {
    return this.#push(key, body, retention);
  }

  /** The current version, or the named one; undefined when there is none. */
  find(key: string, versionId?: string): ObjectVersion | undefined {
    let version = this.#objects.get(key);
    if (versionId === undefined) return version;
    while (version && version.id !== versionId) version = version.previous;
    return version;
  }

  /**
   * Deletes as S3 does: without a version id, a versioned bucket gets a delete marker, even for a
   * key that it never had.
   *
   * @throws {S3Fault} AccessDenied for a version under retention.
   */
  remove(key: string, versionId?: string, bypassGovernance = false): Removal {
    if (versionId !== undefined) return this.#removeVersion(key, versionId, bypassGovernance);
    if (this.versioning === 'Off') {
      this.#objects.delete(key);
      return { versionId: undefined, deleteMarker: false };
    }
    const marker = this.#push(key, undefined, undefined);
    return { versionId: marker.id, deleteMarker: true };
  }

  /**
   * Keys after `after` that start with `prefix`, in the order of their UTF-8 bytes; among them may
   * be some that were deleted since the last sorting, so look each up.
   */
  *keys(prefix: string, after: string): Generator<string> {
    const sorted = (this.#sorted ??= [...this.#objects.keys()].toSorted(compareUtf8));
    const from = compareUtf8(prefix, after) > 0 ? prefix : after;
    for (let at = firstNotBefore(sorted, from); at < sorted.length; at += 1) {
      const key = sorted[at] as string;
      if (compareUtf8(key, after) <= 0 && after !== '') continue;
      if (!key.startsWith(prefix)) return;
      yield key;
    }
  }

  #push(
    key: string,
    body: Uint8Array | undefined,
    retention: Retention | undefined,
  ): ObjectVersion {
    const id = this.versioning === 'Enabled' ? this.#nextVersionId() : NULL_VERSION;
    // The null version is replaced wherever it stands; the others stay.
    if (id === NULL_VERSION) this.#unlink(key, NULL_VERSION);
    const previous = this.#objects.get(key);
    if (!previous) this.#sorted = undefined;
    const version = { id, body, modified: Date.now(), retention, previous };
    this.#objects.set(key, version);
    return version;
  }

  #removeVersion(key: string, versionId: string, bypassGovernance: boolean): Removal {
    const retention = this.find(key, versionId)?.retention;
    const mayBypass = bypassGovernance && retention?.mode === 'GOVERNANCE';
    if (retention && retention.until > Date.now() && !mayBypass) {
      throw new S3Fault(
        403,
        'AccessDenied',
        'Access Denied because object protected by object lock.',
      );
    }
    const removed = this.#unlink(key, versionId);
    return { versionId, deleteMarker: removed !== undefined && removed.body === undefined };
  }

  #unlink(key: string, versionId: string): ObjectVersion | undefined {
    let newer: ObjectVersion | undefined;
    let version = this.#objects.get(key);
    while (version && version.id !== versionId) {
      newer = version;
      version = version.previous;
    }
    if (!version) return undefined;
    if (newer) newer.previous = version.previous;
    else if (version.previous) this.#objects.set(key, version.previous);
    else this.#objects.delete(key);
    return version;
  }

  #nextVersionId(): string {
    this.#versions += 1;
    return `v${String(this.#versions).padStart(15, '0')}`;
  }
}

function firstNotBefore(sorted: readonly string[], key: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareUtf8(sorted[middle] as string, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
