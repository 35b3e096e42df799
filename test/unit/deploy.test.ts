import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { SETTINGS } from '../../src/config/settings.ts';
import { dashboardPanels, dashboardQueries } from '../support/dashboard.ts';
import { refusalOf } from '../support/documented-commands.ts';
import { findKubeTools } from '../support/kube-tools.ts';
import { haveProgram } from '../support/programs.ts';
import { ROOT, anchorsOf, filesBelow, isKnownName, read } from '../support/project-files.ts';

const TELEMETRY = join(ROOT, 'src/telemetry');

// Helm's templates are no YAML before they are rendered: test/unit/helm-chart.test.ts.
const deployed = filesBelow('deploy').filter((path) => !path.includes('/helm/templates/'));
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
      'reconcile',
    ]);
    for (const words of commands) expect(refusalOf({ words, isWhole: true })).toBeUndefined();
  });

  it('give a listener longer to stop than it takes at most', () => {
    const grace = SETTINGS.shutdownGraceSeconds.default;
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

  it('restart a listener for a dead process only, and begin with its successor', () => {
    const { spec } = parse(read('deploy/kubernetes/deployment.yaml')) as Deployment;
    expect(spec.strategy).toEqual({
      type: 'RollingUpdate',
      rollingUpdate: { maxUnavailable: 0, maxSurge: 1 },
    });
    const [container] = spec.template.spec.containers;
    const paths = [
      container?.startupProbe,
      container?.livenessProbe,
      container?.readinessProbe,
    ].map((probe) => probe?.httpGet.path);
    // /healthz answers before the database does (test/system/telemetry.test.ts); /readyz does not,
    // and what is not ready is not restarted.
    expect(paths).toEqual(['/healthz', '/healthz', '/readyz']);
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

  it('make a unit that systemd takes', ({ skip }) => {
    const found = haveProgram('systemd-analyze');
    if (found.path === undefined) return skip(found.reason);
    const unit = 'deploy/systemd/retention-listen.service';
    const { stderr } = spawnSync(found.path, ['verify', unit], { cwd: ROOT, encoding: 'utf8' });
    // What else it says is of this machine: other units, and where node lies.
    expect(stderr.match(/retention-listen\.service:\d+: .*/gu) ?? []).toEqual([]);
    return undefined;
  });

  it('are put together by kustomize', ({ skip }) => {
    const tools = findKubeTools();
    if (tools === undefined) return skip('there is no kubectl here');
    const kinds = parseAllDocuments(runIn(ROOT, tools.kubectl, ['kustomize', 'deploy/kubernetes']))
      .map((document) => (document.toJS() as Manifest).kind)
      .toSorted();
    expect(kinds).toEqual([
      'ConfigMap',
      'CronJob',
      'CronJob',
      'Deployment',
      'Job',
      'PodDisruptionBudget',
      'Service',
      'ServiceAccount',
    ]);
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
    for (const { gridPos } of dashboardPanels()) {
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
    const promtool = haveProgram('promtool');
    if (promtool.path === undefined) return skip(promtool.reason);
    const rules = panelExpressions().map((expr, index) => ({
      record: `panel:${index}`,
      expr,
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
    const promtool = haveProgram('promtool');
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

function runIn(folder: string, program: string, parameters: readonly string[]): string {
  return execFileSync(program, parameters, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
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

interface Probe {
  readonly httpGet: { readonly path: string };
}

interface Deployment {
  readonly spec: {
    readonly strategy: unknown;
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly startupProbe: Probe;
          readonly livenessProbe: Probe;
          readonly readinessProbe: Probe;
        }[];
      };
    };
  };
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

function panelExpressions(): string[] {
  return dashboardQueries('5m').map(({ query }) => query);
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
