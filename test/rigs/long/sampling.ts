import { setTimeout as pause } from 'node:timers/promises';
import type { Ground } from '../chaos/campaign.ts';
import { type Crew, sessionName } from '../chaos/crew.ts';
import type { Bounds } from './bounds.ts';
import { type DatabaseSample, sampleDatabase } from './database-samples.ts';
import { type Figure, round } from './flatness.ts';
import { type ProcessSample, sampleProcess } from './process-samples.ts';

/** One look at everything. */
export interface Sample {
  /** Since the first. */
  readonly seconds: number;
  readonly listeners: readonly (ProcessSample | undefined)[];
  readonly database: DatabaseSample | undefined;
  readonly s3Connections: number;
  /** How often the listeners have worked off what they found, up to now. */
  readonly drains: number;
}

/** What is looked at, and how often. */
export interface Sampling {
  readonly ground: Ground;
  readonly crew: Crew;
  /** The reactor's role. */
  readonly role: string;
  /** Whether the server counts dead tuples. */
  readonly counts: boolean;
  /** Where the listeners write what they hold. */
  readonly folder: string;
  readonly everyMs: number;
  /** Hears of some of them. */
  readonly say: (line: string) => void;
}

const SAY_EVERY_SECONDS = 300;

/** What a listener says after each drain. */
const DRAINED = 'Retention cleanup completed';

/** Looks at a steady pace until it is aborted. */
export async function takeSamples(options: Sampling, signal: AbortSignal): Promise<Sample[]> {
  const samples: Sample[] = [];
  let said = 0;
  const startedAt = performance.now();
  while (!signal.aborted) {
    const sample = await look(options, (performance.now() - startedAt) / 1_000);
    samples.push(sample);
    if (sample.seconds >= (said + 1) * SAY_EVERY_SECONDS) {
      said += 1;
      options.say(inBrief(sample));
    }
    const nextAt = startedAt + samples.length * options.everyMs;
    await pause(Math.max(0, nextAt - performance.now()), undefined, { signal }).catch(
      () => undefined,
    );
  }
  return samples;
}

async function look(options: Sampling, seconds: number): Promise<Sample> {
  const { ground, crew, role, counts, folder } = options;
  for (const { network } of crew.posts) network.expire();
  const [listeners, database, s3Connections] = await Promise.all([
    Promise.all(
      crew.posts.map(async (post) => {
        const running = post.process();
        return running === undefined ? undefined : sampleProcess(running.pid, folder);
      }),
    ),
    sampleDatabase(ground.postgres.url(), role, counts),
    ground.proxy.connections(),
  ]);
  const said = crew.posts.map((post) => post.process()?.stderr ?? '').join('');
  const drains = said.split(DRAINED).length - 1;
  return { seconds, listeners, database, s3Connections, drains };
}

function inBrief({ seconds, listeners }: Sample): string {
  const each = listeners.map((seen) =>
    seen === undefined ? 'gone' : `${round(seen.rssMb)} MB, ${seen.descriptors} descriptors`,
  );
  return `${Math.round(seconds / 60)} minutes: ${each.join('; ')}`;
}

/** What was seen, by what has to be flat. */
export function figuresOf(samples: readonly Sample[], bounds: Bounds): Figure[] {
  const figure = (
    name: string,
    unit: string,
    bound: Figure['bound'],
    value: (sample: Sample) => number | undefined,
  ): Figure => ({ name, unit, bound, samples: samples.map(value) });
  const listeners = (samples[0]?.listeners ?? []).flatMap((_, index) => {
    const name = sessionName(index);
    const of = (value: (sample: ProcessSample) => number | undefined) => (sample: Sample) => {
      const seen = sample.listeners[index];
      return seen === undefined ? undefined : value(seen);
    };
    return [
      figure(
        `${name}: memory`,
        'MB',
        bounds.memory,
        of(({ rssMb }) => rssMb),
      ),
      figure(
        `${name}: heap and buffers`,
        'MB',
        bounds.heap,
        of(({ heapMb }) => heapMb),
      ),
      figure(
        `${name}: descriptors`,
        '',
        bounds.descriptors,
        of((seen) => seen.descriptors),
      ),
      figure(
        `${name}: timers`,
        '',
        bounds.timers,
        of(({ timers }) => timers),
      ),
      figure(
        `${name}: sessions`,
        '',
        bounds.sessions,
        ({ database }) => database && (database.sessions[name] ?? 0),
      ),
    ];
  });
  const names = new Set(samples.flatMap(({ database }) => Object.keys(database?.tables ?? {})));
  const tables = [...names]
    .toSorted()
    .flatMap((name) => [
      figure(`${name}: table`, 'kB', bounds.table, (seen) => seen.database?.tables[name]?.tableKb),
      figure(
        `${name}: indexes`,
        'kB',
        bounds.table,
        (seen) => seen.database?.tables[name]?.indexesKb,
      ),
      figure(
        `${name}: dead tuples`,
        '',
        bounds.deadTuples,
        (seen) => seen.database?.tables[name]?.deadTuples,
      ),
    ]);
  return [
    ...listeners,
    figure(
      'sessions of the reactor',
      '',
      { ...bounds.sessions, ceiling: Infinity },
      ({ database }) =>
        database && Object.values(database.sessions).reduce((sum, count) => sum + count, 0),
    ),
    figure('connections to S3', '', bounds.s3Connections, (seen) => seen.s3Connections),
    ...tables,
  ];
}
