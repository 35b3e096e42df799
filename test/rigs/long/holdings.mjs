// Preloaded into a process that is to write down, at each SIGUSR2, what it holds when all garbage is
// gone. What is left grows only when something is kept.
import { renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const file = `${process.env.HOLDINGS_FOLDER}/${process.pid}.json`;
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');
let count = 0;

process.on('SIGUSR2', () => {
  collectGarbage();
  count += 1;
  const { heapUsed, external } = process.memoryUsage();
  const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  writeFileSync(`${file}.new`, JSON.stringify({ count, bytes: heapUsed + external, timers }));
  renameSync(`${file}.new`, file);
});
