import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Scenario } from '../bench.ts';
import { median, ratios } from '../figure.ts';
import { COMMAND_FILE } from '../../../stack/project.ts';

const run = promisify(execFile);

/** Each sample is the median of so many starts: a single one is too short to time. */
const STARTS = 9;

/** How long it takes until the command says what it can do. */
export const start: Scenario = {
  name: 'start',
  run: async (bench) => {
    const milliseconds = { node: [] as number[], help: [] as number[] };
    for (let index = 0; index < bench.options.runs; index += 1) {
      const node: number[] = [];
      const help: number[] = [];
      for (let each = 0; each < STARTS; each += 1) {
        node.push(await time(['-e', '0']));
        help.push(await time([COMMAND_FILE, '--help']));
      }
      milliseconds.node.push(median(node));
      milliseconds.help.push(median(help));
    }
    const { node, help } = milliseconds;
    return [
      {
        name: 'start',
        title: 'start: retention --help / node -e 0',
        unit: '×',
        samples: ratios(help, node),
        target: { is: 'at most', value: 3 },
        detail: `${Math.round(median(help))} ms / ${Math.round(median(node))} ms`,
      },
    ];
  },
};

async function time(parameters: readonly string[]): Promise<number> {
  const startedAt = performance.now();
  await run(process.execPath, parameters);
  return performance.now() - startedAt;
}
