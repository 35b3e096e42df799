// What a release checks and writes; .github/workflows/release.yml runs it, and test/unit/release.test.ts. Plain
// JavaScript without dependencies.
//
//   node .ci/release.mjs check TAG        the tag, every version, the changelog and the repository agree
//   node .ci/release.mjs notes TAG        prints what the changelog says of the version
//   node .ci/release.mjs files TARBALL    the package holds what it must, and nothing else
//   node .ci/release.mjs bill FILE        prints the bill of materials of npm sbom without what is for tests
//
// `check` prints what later steps need, as lines name=value. What is wrong goes to stderr, all of it at once, with
// exit code 1; wrong usage is 2.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const SEMVER = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/u;
/** Folders that go into the package as they are. */
const WHOLE = ['migrations', 'docs', 'deploy'];
const SINGLE = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md'];

const [command, parameter, ...others] = process.argv.slice(2);
const commands = { check, notes, files, bill };
if (!Object.hasOwn(commands, command ?? '') || parameter === undefined || others.length > 0) {
  console.error('usage: node .ci/release.mjs check TAG | notes TAG | files TARBALL | bill FILE');
  process.exitCode = 2;
} else {
  const faults = commands[command](parameter);
  for (const fault of faults) console.error(`release: ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
}

function check(tag) {
  const version = tag.replace(/^v/u, '');
  if (!tag.startsWith('v') || !SEMVER.test(version)) {
    return [`the tag is ${tag}, expected v and a version, such as v1.2.3 or v1.2.3-beta.1`];
  }
  const faults = [];
  for (const [where, found] of versions()) {
    if (found !== version) faults.push(`${where} says ${found}, but the tag is ${tag}`);
  }
  if (sectionOf(version) === '') {
    faults.push(`CHANGELOG.md says nothing under "## [${version}]": rename "## [Unreleased]"`);
  }
  faults.push(...repositoryFaults(), ...dumpFaults(version));
  // npm installs what is called latest, so a version to try must not be.
  const channel = version.includes('-') ? 'next' : 'latest';
  if (faults.length === 0) console.log(`version=${version}\nchannel=${channel}`);
  return faults;
}

/** Every place that names the version. */
function versions() {
  const chart = read('deploy/helm/Chart.yaml');
  const lock = JSON.parse(read('package-lock.json'));
  return [
    ['package.json', JSON.parse(read('package.json')).version],
    ['package-lock.json', lock.version],
    ['package-lock.json, for the package itself,', lock.packages[''].version],
    ['version in deploy/helm/Chart.yaml', fieldOf(chart, 'version')],
    ['appVersion in deploy/helm/Chart.yaml', fieldOf(chart, 'appVersion')],
    ['newTag in deploy/kubernetes/kustomization.yaml', kustomizationTag()],
  ];
}

function kustomizationTag() {
  return fieldOf(read('deploy/kubernetes/kustomization.yaml'), ' +newTag');
}

function fieldOf(yaml, name) {
  return new RegExp(`^${name}: ['"]?([^'"\\s]+)`, 'mu').exec(yaml)?.[1];
}

/** The registry refuses provenance from another repository than package.json names. */
function repositoryFaults() {
  const running = process.env['GITHUB_REPOSITORY'];
  const { repository } = JSON.parse(read('package.json'));
  const named = /github\.com\/(.+?)(?:\.git)?$/u.exec(repository?.url ?? '')?.[1];
  if (named === undefined) return ['repository.url in package.json names no repository on GitHub'];
  if (running === undefined || running === named) return [];
  return [`repository.url in package.json names ${named}, but this is ${running}`];
}

/** A version to try is not migrated from. */
function dumpFaults(version) {
  if (version.includes('-')) return [];
  const digests = JSON.parse(read('test/releases/digests.json'));
  const hasDump = readdirSync('test/releases').includes(`${version}.sql`);
  if (hasDump && Object.hasOwn(digests, version)) return [];
  return [`test/releases holds no dump of ${version}: see CONTRIBUTING.md, Releasing`];
}

function notes(tag) {
  const version = tag.replace(/^v/u, '');
  const section = sectionOf(version);
  if (section === '') return [`CHANGELOG.md says nothing under "## [${version}]"`];
  console.log(section);
  return [];
}

/** What stands below the heading of a version, without the headings of others. */
function sectionOf(version) {
  const [, ...sections] = read('CHANGELOG.md').split(/^## /mu);
  const own = sections.find((section) => section.startsWith(`[${version}]`)) ?? '';
  // Links at the end of the file belong to no version.
  const text = own.split('\n').slice(1).join('\n');
  return text.replace(/\n(?:\[[^\]]+\]: \S+\n?)+$/u, '\n').trim();
}

function files(tarball) {
  const { status, stdout } = spawnSync('tar', ['-tzf', tarball], { encoding: 'utf8' });
  if (status !== 0) return [`${tarball} cannot be read as a package`];
  const packed = stdout.split('\n').filter((line) => line !== '' && !line.endsWith('/'));
  const held = new Set(packed.map((path) => path.replace(/^package\//u, '')));
  const expected = new Set([...SINGLE, ...WHOLE.flatMap(filesBelow)]);
  for (const path of filesBelow('src')) {
    const source = path.replace(/^src\//u, 'dist/').replace(/\.ts$/u, '');
    expected.add(`${source}.js`).add(`${source}.d.ts`);
  }
  const missing = [...expected].filter((path) => !held.has(path));
  const strange = [...held].filter((path) => !expected.has(path));
  return [
    ...missing.map((path) => `${path} is missing from the package`),
    ...strange.map((path) => `${path} is in the package, and nothing in the repository makes it`),
  ].toSorted();
}

// npm sbom --omit=dev leaves out also what both need, such as pg.
function bill(file) {
  const all = JSON.parse(read(file));
  const { name } = JSON.parse(read('package.json'));
  const isForTests = ({ properties = [] }) =>
    properties.some((each) => each.name === 'cdx:npm:package:development' && each.value === 'true');
  const left = new Set(all.components.filter(isForTests).map((each) => each['bom-ref']));
  const isShipped = (reference) => !left.has(reference);
  const { component } = all.metadata;
  const shipped = {
    ...all,
    // Without its own name npm takes the folder's.
    metadata: { ...all.metadata, component: { ...component, name } },
    components: all.components.filter((each) => isShipped(each['bom-ref'])),
    dependencies: all.dependencies
      .filter(({ ref }) => isShipped(ref))
      .map((each) => ({ ...each, dependsOn: each.dependsOn.filter(isShipped) })),
  };
  console.log(JSON.stringify(shipped, null, 2));
  return [];
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function read(path) {
  return readFileSync(path, 'utf8');
}
