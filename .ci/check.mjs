// `npm test`: everything that must hold, one stage after the other, from a bare clone. Plain
// JavaScript without dependencies: it runs before anything is installed.
//
//   node .ci/check.mjs              every stage
//   node .ci/check.mjs lint unit    only these
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureInstalled, runNpm } from './install.mjs';

const STAGES = [
  {
    name: 'packages',
    what: 'what the tests need from the distribution: test/stack/packages.ts',
    script: 'packages',
  },
  { name: 'build', what: 'compiling src to dist', script: 'build' },
  { name: 'types', what: 'checking the types of sources and tests', script: 'types' },
  { name: 'lint', what: 'linting, with the room table and type-aware rules', script: 'lint' },
  { name: 'format', what: 'checking the formatting', script: 'format:check' },
  { name: 'unit', what: 'unit tests', script: 'test:unit', counts: true },
  {
    name: 'database',
    what: 'database tests, on a private PostgreSQL with pg_cron',
    script: 'test:database',
    counts: true,
  },
  {
    name: 'system',
    what: 'system tests, with the built command, PostgreSQL and S3',
    script: 'test:system',
    counts: true,
  },
];

const total = { passed: 0, failed: 0, skipped: 0 };
let counted = false;
const scratch = mkdtempSync(join(tmpdir(), 'retention-check-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

main();

function main() {
  const names = process.argv.slice(2);
  const unknown = names.filter((name) => !STAGES.some((stage) => stage.name === name));
  if (unknown.length > 0) {
    console.error(
      `No such stage: ${unknown.join(', ')}. There are: ${STAGES.map(({ name }) => name).join(', ')}`,
    );
    process.exit(2);
  }
  const stages = STAGES.filter(({ name }) => names.length === 0 || names.includes(name));
  say('install: the node modules of package-lock.json');
  ensureInstalled();
  for (const stage of stages) {
    const failed = !runStage(stage);
    if (failed) {
      say(`${stage.name} failed; stopping here. Again, only this: npm run ${stage.script}`);
      break;
    }
  }
  if (counted) console.log(closingLine());
}

function runStage({ name, what, script, counts }) {
  say(`${name}: ${what}`);
  const startedAt = performance.now();
  const tally = join(scratch, `${name}.json`);
  const { status } = runNpm(['run', '--silent', script], {
    ...process.env,
    TEST_TALLY: counts ? tally : '',
  });
  if (counts) {
    counted = true;
    addUp(tally);
  }
  if (status !== 0) {
    process.exitCode = 1;
    // A test run that ended before it could count is a failure too.
    if (counts && total.failed === 0) total.failed = 1;
    return false;
  }
  say(`${name}: done in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  return true;
}

function addUp(file) {
  try {
    const tally = JSON.parse(readFileSync(file, 'utf8'));
    for (const key of Object.keys(total)) total[key] += tally[key];
  } catch {
    // The run ended before it could count.
  }
}

function closingLine() {
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  return `${total.passed} passed, ${total.failed} failed${skipped}`;
}

function say(line) {
  console.log(`\n== ${line}`);
}
