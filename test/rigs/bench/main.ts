import { join } from 'node:path';
import { PROJECT } from '../../stack/project.ts';
import { withBench } from './bench.ts';
import { type Summary, summarise } from './figure.ts';
import { readOptions } from './options.ts';
import { writePage } from './page.ts';
import { describeServer, formatTable, makeReport, writeReport } from './report.ts';
import { SCENARIOS } from './scenarios.ts';

const options = readOptions(
  process.argv.slice(2),
  SCENARIOS.map(({ name }) => name),
);
const startedAt = performance.now();

await withBench(options, async (bench) => {
  const summaries: Summary[] = [];
  for (const scenario of SCENARIOS) {
    if (options.only !== undefined && !options.only.includes(scenario.name)) continue;
    const figures = (await scenario.run(bench)).map(summarise);
    // Said at once: a run that is broken off has measured something.
    bench.say(`${formatTable(figures)}\n`);
    summaries.push(...figures);
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  const run = { seconds, postgresMajor: bench.postgres.major };
  const report = makeReport(summaries, options, run);
  writeReport(report, options.out);
  if (options.plot && options.only === undefined)
    writePage(report, join(PROJECT, 'docs/benchmark.md'));
  process.stdout.write(`${formatTable(summaries)}\n\n${describeServer(bench.postgres.major)}\n`);
  bench.say(`\n${Math.round(seconds)} s; written to ${options.out}`);
});
