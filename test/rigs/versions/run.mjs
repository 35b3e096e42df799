// `npm run test:versions`: installs the servers and the Nodes that are missing, and runs versions.test.ts on them.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODES, POSTGRES, folderOf } from './versions.mjs';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

for (const { name, spec } of [...POSTGRES, ...NODES]) {
  if (spec === undefined) continue;
  const folder = folderOf(ROOT, name);
  if (existsSync(join(folder, 'node_modules'))) continue;
  console.log(`Installing ${spec}`);
  run('npm', [
    'install',
    '--no-save',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
    '--prefix',
    folder,
    spec,
  ]);
}
run(process.execPath, [
  join(ROOT, 'node_modules/vitest/vitest.mjs'),
  'run',
  '--project',
  'versions',
  ...process.argv.slice(2),
]);

function run(program, parameters) {
  const { status } = spawnSync(program, parameters, { stdio: 'inherit', cwd: ROOT });
  if (status !== 0) process.exit(status ?? 1);
}
