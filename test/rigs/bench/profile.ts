import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchDatabase } from './bench.ts';

/*
Where the time of a drain goes: by package in the listener (a CPU profile of V8's), and by statement
in Postgres (pg_stat_statements, also of what functions run).
*/

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const TOP = 12;

/** The flags with which Node writes a profile into a folder when it ends. */
export function profileFlags(folder: string): string[] {
  return ['--cpu-prof', `--cpu-prof-dir=${folder}`];
}

/** Self time by package and the functions that take most of it, as lines. */
export function describeCpuProfiles(folder: string): string[] {
  const byPlace = new Map<string, number>();
  const byFunction = new Map<string, number>();
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.cpuprofile'))) {
    const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile;
    const frames = new Map(profile.nodes.map((node) => [node.id, node.callFrame]));
    profile.samples.forEach((id, index) => {
      const frame = frames.get(id);
      const milliseconds = (profile.timeDeltas[index] ?? 0) / 1_000;
      if (frame === undefined || frame.functionName === '(idle)') return;
      const place = placeOf(frame);
      add(byPlace, place, milliseconds);
      add(byFunction, `${frame.functionName || '(anonymous)'} (${place})`, milliseconds);
    });
  }
  return [
    'listener, self time:',
    ...describeTop(byPlace),
    'listener, functions:',
    ...describeTop(byFunction),
  ];
}

/** What Postgres spent its time on in one database since its start, as lines. */
export async function describeStatements(database: BenchDatabase): Promise<string[]> {
  const rows = await database.query<{ query: string; calls: string; ms: string; top: boolean }>(
    `select regexp_replace(left(s.query, 400), '\\s+', ' ', 'g') as query, s.calls, s.toplevel as top,
      round(s.total_exec_time::numeric, 1) as ms
    from pg_stat_statements s
    join pg_database d on d.oid = s.dbid and d.datname = current_database()
    order by s.total_exec_time desc
    limit 25`,
  );
  return [
    'Postgres, statements (those within functions are part of the ones that call them):',
    ...rows.map(
      ({ query, calls, ms, top }) =>
        `  ${ms.padStart(9)} ms ${calls.padStart(6)} × ${top ? '' : '  within: '}${query.slice(0, 150)}`,
    ),
  ];
}

function placeOf({ functionName, url }: CpuProfile['nodes'][number]['callFrame']): string {
  if (functionName === '(garbage collector)') return 'garbage collection';
  const inModules = /node_modules\/((?:@[^/]+\/)?[^/]+)/u.exec(url)?.[1];
  if (inModules !== undefined) return inModules;
  if (url.startsWith('node:')) return 'node';
  return url === '' ? 'V8' : url.replace(/^.*\/dist\//u, '');
}

function add(sums: Map<string, number>, name: string, milliseconds: number): void {
  sums.set(name, (sums.get(name) ?? 0) + milliseconds);
}

function describeTop(sums: ReadonlyMap<string, number>): string[] {
  const total = [...sums.values()].reduce((sum, it) => sum + it, 0);
  return [...sums]
    .toSorted(([, left], [, right]) => right - left)
    .slice(0, TOP)
    .map(
      ([name, ms]) =>
        `  ${((100 * ms) / total).toFixed(1).padStart(5)} % ${ms.toFixed(0).padStart(6)} ms  ${name}`,
    );
}
