// `npm run test:mutations`: breaks each promise on purpose, in a copy of the tree, and shows that the
// test named for it fails. Takes minutes. Nothing of the tree itself is touched.
//
//   npm run test:mutations                        all
//   npm run test:mutations -- --promise 3         those of one promise
//   npm run test:mutations -- --only lease        those whose name has this
//   npm run test:mutations -- --in test/unit      those whose test is in a file whose path has this
//   npm run test:mutations -- --from lease        the first whose name has this, and what comes after it
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mutations, titleOf } from './mutations.mjs';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const LIMIT_MILLISECONDS = 240_000;

const { values } = parseArgs({
  options: {
    promise: { type: 'string' },
    only: { type: 'string' },
    in: { type: 'string', default: '' },
    from: { type: 'string', default: '' },
  },
});
const first = mutations.findIndex(({ name }) => name.includes(values.from));
const left = first === -1 ? [] : mutations.slice(first);
const chosen = left.filter(
  ({ promise, name, testFile }) =>
    testFile.includes(values.in) &&
    (values.promise === undefined || promise === Number(values.promise)) &&
    (values.only === undefined || name.includes(values.only)),
);

const copy = mkdtempSync(join(tmpdir(), 'retention-mutations-'));
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

main();

function main() {
  copyTree();
  build();
  let noticed = 0;
  console.log('promise | mutation | noticed by | seconds');
  for (const mutation of chosen) {
    const startedAt = performance.now();
    const finding = tryOut(mutation);
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
    if (finding.noticed) noticed += 1;
    const by = finding.noticed ? `${mutation.testFile}: ${titleOf(mutation)}` : finding.why;
    console.log(`${mutation.promise} | ${mutation.name} | ${by} | ${seconds}`);
  }
  console.log(`${noticed} noticed, ${chosen.length - noticed} not noticed`);
  process.exitCode = noticed === chosen.length && noticed > 0 ? 0 : 1;
}

function copyTree() {
  const listed = run('git', ['ls-files', '--cached', '--others', '--exclude-standard'], ROOT);
  for (const file of listed.stdout.split('\n').filter((line) => line !== '')) {
    cpSync(join(ROOT, file), join(copy, file), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
}

function build() {
  const { status, stdout, stderr } = run('npm', ['run', '--silent', 'build'], copy);
  if (status !== 0) throw new Error(`The build failed:\n${stdout}${stderr}`);
}

function tryOut(mutation) {
  const undo = [];
  const isBuilt = mutation.edits.some(({ file }) => file.startsWith('src/'));
  try {
    for (const edit of mutation.edits) undo.push(apply(edit));
    if (isBuilt) build();
    const finding = judge(mutation);
    // Without a report nothing was judged: the run was starved, or its servers did not come up.
    return finding.isJudged === false ? judge(mutation) : finding;
  } catch (error) {
    // One that no longer applies keeps nobody from trying the others.
    return { noticed: false, why: `NOT NOTICED: ${error.message}` };
  } finally {
    for (const revert of undo.toReversed()) revert();
    if (isBuilt) build();
  }
}

function apply({ file, search, replace }) {
  const path = join(copy, file);
  const before = readFileSync(path, 'utf8');
  const times = before.split(search).length - 1;
  if (times !== 1) throw new Error(`${file} has this ${times} times, not once:\n${search}`);
  writeFileSync(
    path,
    before.replace(search, () => replace),
  );
  return () => writeFileSync(path, before);
}

/** Runs the one test. Only its own failure counts, not that of what it is set up with. */
function judge(mutation) {
  const title = titleOf(mutation);
  const report = join(copy, 'mutation-report.json');
  rmSync(report, { force: true });
  const pattern = title.replaceAll(/[.*+?^${}()|[\]\\]/gu, String.raw`\$&`);
  const project = dirname(mutation.testFile).split('/')[1];
  const ended = run(
    join(copy, 'node_modules/.bin/vitest'),
    ['run', mutation.testFile, '--project', project, '-t', `${pattern}$`, '--retry=0'].concat(
      '--reporter=json',
      `--outputFile=${report}`,
    ),
    copy,
  );
  let results;
  try {
    results = JSON.parse(readFileSync(report, 'utf8')).testResults;
  } catch {
    return { noticed: false, isJudged: false, why: `NOT JUDGED: no report, ${howItEnded(ended)}` };
  }
  const found = results
    .flatMap(({ assertionResults }) => assertionResults)
    .filter((result) => result.title === title);
  const states = new Set(found.map(({ status }) => status));
  if (states.has('failed')) return { noticed: true };
  const said = results
    .map(({ message }) => message)
    .join(' ')
    .trim();
  return {
    noticed: false,
    why: `NOT NOTICED: ${[...states].join(', ') || 'no such test'} ${said}`,
  };
}

function howItEnded({ status, signal, error, stdout, stderr }) {
  const how =
    error?.code === 'ETIMEDOUT'
      ? `stopped after ${LIMIT_MILLISECONDS / 1_000} seconds`
      : `it ended with ${signal ?? status}`;
  return `${how}; ${(stdout + stderr).slice(-500)}`;
}

function run(program, parameters, cwd) {
  return spawnSync(program, parameters, {
    cwd,
    encoding: 'utf8',
    timeout: LIMIT_MILLISECONDS,
    maxBuffer: 64 * 1024 * 1024,
  });
}
