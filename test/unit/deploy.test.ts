import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { SETTINGS } from '../../src/config-settings.ts';
import { commandsIn, refusalOf } from '../support/documented-commands.ts';
import { haveProgram } from '../support/programs.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TELEMETRY = join(ROOT, 'src/telemetry');

const deployed = filesBelow('deploy');
const documents = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...filesBelow('docs'),
  ...deployed,
].filter((path) => path.endsWith('.md'));
const settingNames = new Set(SETTINGS.map(({ name }) => name));

/** What is set for others than the reactor, or for its tests. */
const OTHER_NAMES: ReadonlySet<string> = new Set([
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'NODE_ENV',
  'RETENTION_WRITE_DOCS',
  'S3_TEST_ENDPOINT',
]);

describe('the files of deploy/', () => {
  it.each(deployed.filter((path) => path.endsWith('.yaml')))('%s is YAML', (path) => {
    for (const document of parseAllDocuments(read(path), { merge: true })) {
      expect([...document.errors, ...document.warnings]).toEqual([]);
    }
  });

  it.each(deployed.filter((path) => path.endsWith('.json')))('%s is JSON', (path) => {
    expect(JSON.parse(read(path))).toBeTypeOf('object');
  });

  it('set only variables that there are', () => {
    const found = containers().flatMap(({ where, variables }) =>
      variables.map((name) => ({ where, name })),
    );
    expect(found.length).toBeGreaterThan(20);
    expect(found.filter(({ name }) => !isKnownName(name))).toEqual([]);
  });

  it('run only commands that there are', () => {
    const commands = containers().flatMap(({ words }) => (words.length === 0 ? [] : [words]));
    expect(commands.map(([command = '']) => command).toSorted()).toEqual([
      'listen',
      'listen',
      'listen',
      'listen',
      'migrate',
      'migrate',
      'reconcile',
    ]);
    for (const words of commands) expect(refusalOf({ words, isWhole: true })).toBeUndefined();
  });

  it('give a listener longer to stop than it takes at most', () => {
    const grace = Number(SETTINGS.find(({ name }) => name.endsWith('_GRACE_SECONDS'))?.default);
    const limits = [
      ...read('deploy/kubernetes/deployment.yaml').matchAll(
        /terminationGracePeriodSeconds: (\d+)/gu,
      ),
      ...read('deploy/compose.yaml').matchAll(/stop_grace_period: (\d+)s/gu),
      ...read('deploy/systemd/retention-listen.service').matchAll(/TimeoutStopSec=(\d+)/gu),
    ].map(([, seconds]) => Number(seconds));
    expect(limits).toHaveLength(3);
    for (const seconds of limits) expect(seconds).toBeGreaterThan(grace + 5);
  });

  it.each([
    [200, 0],
    [503, 1],
  ])('take %i of /healthz for exit code %i in the image', async (status, expected) => {
    const asked: (string | undefined)[] = [];
    const server = createServer(({ url }, response) => {
      asked.push(url);
      response.writeHead(status).end();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const [, command = '[]'] = /^ +CMD (\[.*\])$/mu.exec(read('deploy/Dockerfile')) ?? [];
      const [program = '', ...parameters] = JSON.parse(command) as string[];
      const RETENTION_HTTP_PORT = String((server.address() as AddressInfo).port);
      const child = spawn(program, parameters, { env: { ...process.env, RETENTION_HTTP_PORT } });
      const [code] = (await once(child, 'close')) as [number];
      expect({ code, asked }).toEqual({ code: expected, asked: ['/healthz'] });
    } finally {
      server.close();
    }
  });

  it('ask in IAM policies for the actions that the code needs, and no others', () => {
    const inCode = new Set(
      filesBelow('src').flatMap((path) => read(path).match(/s3:[A-Z]\w+/gu) ?? []),
    );
    const policies = deployed.filter((path) => path.startsWith('deploy/iam/'));
    for (const path of policies) {
      const { Statement } = JSON.parse(read(path)) as {
        readonly Statement: readonly { readonly Action: string | readonly string[] }[];
      };
      for (const action of Statement.flatMap(({ Action }) => Action)) {
        expect([...inCode], path).toContain(action);
      }
    }
  });
});

describe('alerts and dashboard', () => {
  const existing = metricNames();

  it.skipIf(existing.size === 0)(
    `use only metrics that src/telemetry has${existing.size === 0 ? ' (skipped: it has none yet)' : ''}`,
    () => {
      const used = [...alertExpressions(), ...panelExpressions()].flatMap(
        (expression) => expression.match(/\bretention_\w+/gu) ?? [],
      );
      const names = new Set(used.map((name) => metricOf(name, existing)));
      expect([...names].filter((name) => !existing.has(name))).toEqual([]);
    },
  );

  it('link each alert to a section of the operating guide, in both languages', () => {
    const links = alerts().map(({ annotations }) => annotations['runbook_url'] ?? '');
    const english = anchorsOf('docs/runbook.md');
    for (const link of links) {
      expect(link).toMatch(/^RUNBOOK#/u);
      expect([...english]).toContain(link.slice('RUNBOOK#'.length));
    }
    const korean = anchorsOf('docs/runbook.ko.md');
    for (const link of links) {
      expect([...korean]).toContain(link.slice('RUNBOOK#'.length).replace('alert', '알림'));
    }
  });

  it('have panels that do not overlap', () => {
    const taken = new Set<string>();
    for (const { gridPos } of dashboard().panels) {
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(x).toBeLessThan(24);
          expect(taken.has(`${x},${y}`), `${x},${y}`).toBe(false);
          taken.add(`${x},${y}`);
        }
      }
    }
  });

  it('have queries that Prometheus can read', { timeout: 120_000 }, async ({ skip }) => {
    const promtool = await haveProgram('promtool', 'prometheus');
    if (promtool.path === undefined) return skip(promtool.reason);
    const rules = panelExpressions().map((expr, index) => ({
      record: `panel:${index}`,
      expr: expr.replaceAll('$__rate_interval', '5m'),
    }));
    const folder = mkdtempSync(join(tmpdir(), 'retention-panels-'));
    try {
      writeFileSync(
        join(folder, 'panels.yaml'),
        stringify({ groups: [{ name: 'panels', rules }] }),
      );
      const said = runIn(folder, promtool.path, ['check', 'rules', 'panels.yaml']);
      expect(said).toContain(`SUCCESS: ${rules.length} rules found`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return undefined;
  });

  it('pass promtool, with a case for every alert', { timeout: 120_000 }, async ({ skip }) => {
    const promtool = await haveProgram('promtool', 'prometheus');
    if (promtool.path === undefined) return skip(promtool.reason);
    const folder = join(ROOT, 'deploy/prometheus');
    expect(runIn(folder, promtool.path, ['check', 'rules', 'alerts.yaml'])).toContain('SUCCESS');
    expect(runIn(folder, promtool.path, ['test', 'rules', 'alerts.test.yaml'])).toContain(
      'SUCCESS',
    );
    const cases = read('deploy/prometheus/alerts.test.yaml');
    for (const { alert } of alerts()) {
      expect(cases.split(`alertname: ${alert}\n`).length, alert).toBeGreaterThan(1);
    }
    return undefined;
  });
});

describe('the documents', () => {
  it.each(documents)('%s shows only commands that the program has', (path) => {
    const refused = commandsIn(read(path)).flatMap((command) => {
      const reason = refusalOf(command);
      return reason === undefined ? [] : [`retention ${command.words.join(' ')}: ${reason}`];
    });
    expect(refused).toEqual([]);
  });

  it.each(documents)('%s names only variables that there are', (path) => {
    const names = read(path).match(
      /\b(?:DPP|RETENTION|DATABASE|CRON_DATABASE|S3)_[A-Z0-9_]+\b(?!\*)/gu,
    );
    expect((names ?? []).filter((name) => !isKnownName(name) && !name.endsWith('_'))).toEqual([]);
  });

  it.each(documents)('%s links to what exists', (path) => {
    const links = [...read(path).matchAll(/\]\((?<to>[^)\s]+)\)/gu)].map(
      (match) => match.groups?.['to'] ?? '',
    );
    const broken = links.filter((link) => !/^https?:/u.test(link) && !resolves(path, link));
    expect(broken).toEqual([]);
  });

  it('have the same sections in English and Korean', () => {
    const shape = (path: string): string[] =>
      headingsOf(path).map((heading) => /^#+(?: \d[\d.]*)?/u.exec(heading)?.[0] ?? '');
    expect(shape('docs/runbook.ko.md')).toEqual(shape('docs/runbook.md'));
  });

  it('show the same commands in English and Korean', () => {
    const shown = (path: string): string[] =>
      commandsIn(read(path))
        .filter(({ isWhole }) => isWhole)
        .map(({ words }) => words.join(' '));
    expect(shown('docs/runbook.md').length).toBeGreaterThan(20);
    expect(shown('docs/runbook.ko.md')).toEqual(shown('docs/runbook.md'));
  });

  it('give a reason for every dependency, and for no other', () => {
    const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<
      'dependencies' | 'devDependencies',
      Record<string, string>
    >;
    const rows = read('docs/dependencies.md').match(/^\| `.*?\|/gmu) ?? [];
    const named = rows.flatMap((row) => row.match(/(?<=`)[^`, |]+(?=`)/gu) ?? []);
    expect(named.toSorted()).toEqual(
      [...Object.keys(dependencies), ...Object.keys(devDependencies)].toSorted(),
    );
  });
});

function runIn(folder: string, program: string, parameters: readonly string[]): string {
  return execFileSync(program, parameters, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
}

function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .toSorted();
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

function isKnownName(name: string): boolean {
  return settingNames.has(name) || OTHER_NAMES.has(name);
}

interface Container {
  readonly where: string;
  readonly variables: readonly string[];
  readonly words: readonly string[];
}

/** Whatever runs the reactor, wherever it is described. */
function containers(): Container[] {
  return [...fromKubernetes(), ...fromCompose(), ...fromDockerfile(), ...fromSystemd()];
}

interface Manifest {
  readonly kind: string;
  readonly data?: Record<string, string>;
  readonly stringData?: Record<string, string>;
}

function fromKubernetes(): Container[] {
  return deployed
    .filter((path) => path.startsWith('deploy/kubernetes/') && path.endsWith('.yaml'))
    .flatMap((where) =>
      parseAllDocuments(read(where)).flatMap((document) => {
        const manifest = document.toJS() as Manifest;
        const variables = Object.keys({ ...manifest.data, ...manifest.stringData });
        return [{ where, variables, words: [] }, ...podContainers(where, manifest)];
      }),
    );
}

function podContainers(where: string, node: unknown): Container[] {
  if (typeof node !== 'object' || node === null) return [];
  const own = 'containers' in node ? (node.containers as readonly PodContainer[]) : [];
  return [
    ...own.map(({ env = [], args }) => ({
      where,
      variables: env.map(({ name }) => name),
      words: args,
    })),
    ...Object.values(node).flatMap((child) => podContainers(where, child)),
  ];
}

interface PodContainer {
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string }[];
}

function fromCompose(): Container[] {
  const where = 'deploy/compose.yaml';
  const { services } = parse(read(where), { merge: true }) as {
    readonly services: Record<
      string,
      {
        readonly image?: string;
        readonly environment?: Record<string, string>;
        readonly command?: readonly string[];
      }
    >;
  };
  return Object.values(services)
    .filter(({ image }) => image === 'retention-reactor')
    .map(({ environment = {}, command = [] }) => ({
      where,
      variables: Object.keys(environment),
      words: command,
    }));
}

function fromDockerfile(): Container[] {
  const where = 'deploy/Dockerfile';
  const text = read(where);
  const block = /^ENV ([\s\S]*?[^\\])$/mu.exec(text)?.[1] ?? '';
  const command = /^CMD (\[.*\])$/mu.exec(text)?.[1] ?? '[]';
  return [{ where, variables: namesIn(block), words: JSON.parse(command) as string[] }];
}

function fromSystemd(): Container[] {
  const where = 'deploy/systemd/retention-listen.service';
  const text = read(where);
  const words = /^ExecStart=\S+ \S+ (.*)$/mu.exec(text)?.[1]?.split(' ') ?? [];
  return [{ where, variables: namesIn(/^Environment=(.*)$/mu.exec(text)?.[1] ?? ''), words }];
}

function namesIn(assignments: string): string[] {
  return assignments.match(/\b[A-Z][A-Z0-9_]*(?==)/gu) ?? [];
}

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: Readonly<Record<string, string>>;
}

function alerts(): readonly Alert[] {
  const { groups } = parse(read('deploy/prometheus/alerts.yaml')) as {
    readonly groups: readonly { readonly rules: readonly Alert[] }[];
  };
  return groups.flatMap(({ rules }) => rules);
}

function alertExpressions(): string[] {
  return alerts().map(({ expr }) => expr);
}

interface Panel {
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly targets?: readonly { readonly expr: string }[];
}

function dashboard(): { readonly panels: readonly Panel[] } {
  return JSON.parse(read('deploy/grafana/dashboard.json')) as { readonly panels: readonly Panel[] };
}

function panelExpressions(): string[] {
  return dashboard().panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
}

/** Every name that telemetry gives a metric, as its source says it. */
function metricNames(): ReadonlySet<string> {
  if (!existsSync(TELEMETRY)) return new Set();
  const sources = filesBelow('src/telemetry').map(read).join('\n');
  return new Set(sources.match(/(?<=['"`])retention_[a-z0-9_]+(?=['"`])/gu));
}

/** A histogram is three series. */
function metricOf(series: string, existing: ReadonlySet<string>): string {
  return existing.has(series) ? series : series.replace(/_(?:bucket|sum|count)$/u, '');
}

function headingsOf(path: string): string[] {
  return (
    read(path)
      .replaceAll(/^ *```[\s\S]*?^ *```/gmu, '')
      .match(/^#+ .*$/gmu) ?? []
  );
}

/** The anchors of headings, as GitHub makes them. */
function anchorsOf(path: string): ReadonlySet<string> {
  return new Set(
    headingsOf(path).map((heading) =>
      heading
        .replace(/^#+ /u, '')
        .toLowerCase()
        .replaceAll(/[^\p{Letter}\p{Mark}\p{Number}\p{Connector_Punctuation} -]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

function resolves(from: string, link: string): boolean {
  const [to = '', anchor] = link.split('#');
  const path = to === '' ? from : relative(ROOT, join(ROOT, from, '..', to));
  if (!existsSync(join(ROOT, path))) return false;
  return anchor === undefined || anchorsOf(path).has(decodeURIComponent(anchor));
}
