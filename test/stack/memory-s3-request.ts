import type { IncomingHttpHeaders } from 'node:http';

import type { MemoryBucket } from './memory-s3-bucket.ts';

/** A request to a bucket that exists, by a caller who is known. */
export interface BucketRequest {
  readonly bucket: MemoryBucket;
  /** Empty when the request is about the bucket itself. */
  readonly key: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** What the server makes of the etag of a deletion. */
  readonly conditions: 'honoured' | 'ignored' | 'refused';
  /** Whether the caller may do `action` with the given key. */
  permits(action: string, key: string): boolean;
}

/** An answer. A text is an XML (or JSON) document. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** The keys that the request was about, for the log. */
  readonly keys?: readonly string[];
}

/** Something that S3 can be asked to do with a bucket or an object. */
export interface Operation {
  readonly name: string;
  /** The right it needs; absent where the operation looks at each key itself. */
  readonly action?: string;
  readonly run: (request: BucketRequest) => Answer;
}

/** A header's value, the first where there are several. */
export function header(request: BucketRequest, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
