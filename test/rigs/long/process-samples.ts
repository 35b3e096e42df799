import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../../support/until.ts';

/** To be loaded by each process that is looked at; see {@link startHoldings}. */
export const HOLDINGS_MODULE = fileURLToPath(new URL('holdings.mjs', import.meta.url));

/** What a process holds. */
export interface ProcessSample {
  /** Resident. */
  readonly rssMb: number;
  readonly descriptors: number;
  /** On V8's heap and in buffers, with all garbage gone; undefined: it did not answer. */
  readonly heapMb: number | undefined;
  readonly timers: number | undefined;
}

/** One that is stopped does not answer. */
const ANSWER_MS = 2_000;
const MB = 1_048_576;

interface Holdings {
  readonly count: number;
  readonly bytes: number;
  readonly timers: number;
}

/**
 * Looks at a process.
 *
 * @param folder where its preloaded holdings.mjs writes.
 * @returns nothing of one that is gone.
 */
export async function sampleProcess(
  pid: number,
  folder: string,
): Promise<ProcessSample | undefined> {
  const holdings = await askForHoldings(pid, folder);
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return {
      rssMb: Number(/VmRSS:\s+(\d+) kB/u.exec(status)?.[1]) / 1_024,
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      heapMb: holdings === undefined ? undefined : holdings.bytes / MB,
      timers: holdings?.timers,
    };
  } catch {
    return undefined;
  }
}

async function askForHoldings(pid: number, folder: string): Promise<Holdings | undefined> {
  const before = readHoldings(pid, folder)?.count ?? 0;
  try {
    process.kill(pid, 'SIGUSR2');
    return await until(
      'it has answered',
      () => {
        const holdings = readHoldings(pid, folder);
        return (holdings?.count ?? 0) > before ? holdings : undefined;
      },
      { limitMs: ANSWER_MS },
    );
  } catch {
    return undefined;
  }
}

function readHoldings(pid: number, folder: string): Holdings | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, `${pid}.json`), 'utf8')) as Holdings;
  } catch {
    return undefined;
  }
}
