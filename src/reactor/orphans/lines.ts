import { readSync } from 'node:fs';

const NEWLINE = 0x0a;
const CHUNK_BYTES = 65_536;

/**
 * The lines of an open file from its start, without their ends, apart at line feeds alone: other ends of lines may
 * stand in a key. What comes after the last line feed is a line, too. Holds one line at a time.
 */
export function* readLines(file: number): Generator<Buffer> {
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let parts: Buffer[] = [];
  let position = 0;
  for (;;) {
    const length = readSync(file, chunk, 0, CHUNK_BYTES, position);
    if (length === 0) break;
    position += length;
    let start = 0;
    for (;;) {
      const end = chunk.subarray(0, length).indexOf(NEWLINE, start);
      if (end < 0) break;
      yield Buffer.concat([...parts, chunk.subarray(start, end)]);
      parts = [];
      start = end + 1;
    }
    if (start < length) parts.push(Buffer.from(chunk.subarray(start, length)));
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}

/** The object that a line holds as JSON; undefined: it holds none. */
export function readObject(line: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const document: unknown = JSON.parse(line.toString('utf8'));
    return typeof document === 'object' && document !== null
      ? (document as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
