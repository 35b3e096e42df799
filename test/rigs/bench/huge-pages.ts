import { readFileSync, writeFileSync } from 'node:fs';

const FILE = '/proc/sys/vm/nr_hugepages';
const COUNTS = '/proc/meminfo';
const MEGABYTES_EACH = 2;

/** What PostgreSQL wants beside its shared buffers. */
const OTHER_MEGABYTES = 64;

/**
 * Reserves huge pages for a server's shared memory, as the PostgreSQL manual advises for servers that
 * are to be fast: with small ones each session maps each page of the tables and indexes anew, which
 * under some hypervisors costs more than the work on it. Linux and its administrator only; elsewhere,
 * and where memory is too scattered, the server does without.
 *
 * @returns what undoes it.
 */
export function reserveHugePages(sharedMegabytes: number): { undo(): void } {
  const before = read(FILE);
  if (before === undefined) return { undo: () => undefined };
  const wanted = Math.ceil((sharedMegabytes + OTHER_MEGABYTES) / MEGABYTES_EACH);
  write(Number(before) + wanted);
  return { undo: () => write(Number(before)) };
}

/** How many huge pages are reserved and in nobody's use. */
export function freeHugePages(): number {
  const [, free = '0', promised = '0'] =
    /HugePages_Free:\s+(\d+)[^]*HugePages_Rsvd:\s+(\d+)/u.exec(read(COUNTS) ?? '') ?? [];
  return Number(free) - Number(promised);
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function write(count: number): void {
  try {
    writeFileSync(FILE, String(count));
  } catch {
    // Not ours to set: the server does without.
  }
}
