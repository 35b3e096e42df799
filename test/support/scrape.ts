import type { RunningCli } from './cli.ts';

/** Where a listener serves health, metrics and its page: `http://127.0.0.1:1234/`. */
export async function addressOf(listener: RunningCli): Promise<string> {
  const line = await listener.waitForLine('Serving health, metrics and status on');
  const base = /http:\/\/[\w.:]+\//u.exec(line)?.[0];
  if (base === undefined) throw new Error(`No address in: ${line}`);
  return base;
}

/** The figures of a scrape by name and labels. */
export function readFigures(scrape: string): ReadonlyMap<string, number> {
  const lines = scrape.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const blank = line.lastIndexOf(' ');
      return [line.slice(0, blank), Number(line.slice(blank + 1))];
    }),
  );
}

/** What a scrape says of each metric: its type and its help. */
export function readHelp(
  scrape: string,
): ReadonlyMap<string, { readonly type: string; readonly help: string }> {
  const helps = scrape.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\w+)$/gmu);
  return new Map([...helps].map(([, name = '', help = '', type = '']) => [name, { type, help }]));
}
