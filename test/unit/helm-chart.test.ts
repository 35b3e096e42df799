import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { SETTING_LIST } from '../../src/config/settings.ts';
import { refusalOf } from '../support/documented-commands.ts';
import {
  type KubeObject,
  differencesOf,
  objectsIn,
  podsOf,
  refusalOfChart,
  renderChart,
} from '../support/helm-chart.ts';
import { findKubeTools, runTool } from '../support/kube-tools.ts';
import { filesBelow, isKnownName, read } from '../support/project-files.ts';

const VALUE_FILES = filesBelow('deploy/helm/ci');
/** What stands in a Secret, among the roles, or is the port's. */
const NOT_AMONG_VALUES =
  /^(?:(?:CRON_)?DATABASE_(?:\w+_)?URL|RETENTION_(?:OPERATOR_|OBSERVER_)?ROLE|RETENTION_HTTP_\w+)$/u;
/** What a container may have that is no setting. */
const OF_NODE: readonly string[] = ['NODE_EXTRA_CA_CERTS'];
const NAMES_A_BUCKET = ['--set', 'config.S3_RESULT_BUCKET=b'];

const found = findKubeTools();

describe('the Helm chart', () => {
  it('has the version of the package', () => {
    const { version } = JSON.parse(read('package.json')) as { readonly version: string };
    const chart = parse(read('deploy/helm/Chart.yaml')) as Record<string, unknown>;
    expect(chart).toMatchObject({ version, appVersion: version });
  });

  it('takes every setting that is no secret, and only settings that there are', () => {
    const { properties } = JSON.parse(read('deploy/helm/values.schema.json')) as {
      readonly properties: { readonly config: { readonly properties: object } };
    };
    const settings = SETTING_LIST.map(({ variable }) => variable);
    expect(Object.keys(properties.config.properties).toSorted()).toEqual(
      settings.filter((name) => !NOT_AMONG_VALUES.test(name)).toSorted(),
    );
  });

  it('explains each of its values, and has each in its schema', () => {
    const { properties } = JSON.parse(read('deploy/helm/values.schema.json')) as {
      readonly properties: object;
    };
    const values = read('deploy/helm/values.yaml');
    const names = Object.keys(parse(values) as object);
    expect(names.toSorted()).toEqual(
      Object.keys(properties)
        .filter((name) => name !== 'global')
        .toSorted(),
    );
  });

  it('brings the alerts of deploy/prometheus', () => {
    // To bring a change over: cp deploy/prometheus/alerts.yaml deploy/helm/files/
    expect(read('deploy/helm/files/alerts.yaml')).toBe(read('deploy/prometheus/alerts.yaml'));
  });
});

describe.skipIf(found === undefined)('the Helm chart, rendered by helm', () => {
  const rendered = new Map<string, readonly KubeObject[]>();
  const tools = found ?? { helm: '', kubectl: '' };

  beforeAll(async () => {
    const render = async (file: string): Promise<void> => {
      rendered.set(file, await renderChart(tools, 'retention', '--values', file));
    };
    await Promise.all(VALUE_FILES.map(render));
  });

  const objectsOf = (name: string): readonly KubeObject[] =>
    rendered.get(`deploy/helm/ci/${name}-values.yaml`) ?? [];
  const one = (name: string, kind: string, ending = ''): KubeObject => {
    const [object, ...others] = objectsOf(name).filter(
      (each) => each.kind === kind && each.metadata.name.endsWith(ending),
    );
    if (object === undefined || others.length > 0) throw new Error(`not one ${kind} in ${name}`);
    return object;
  };
  const kindsOf = (name: string): string[] => objectsOf(name).map(({ kind }) => kind);

  it('has six files of values to try', () => {
    expect(VALUE_FILES).toHaveLength(6);
  });

  it.each([[], ...VALUE_FILES.map((file) => ['--values', file])])(
    'lints without a complaint (%s %s)',
    async (...values) => {
      const words = values.filter((word) => word !== undefined);
      const linted = await runTool(tools.helm, 'lint', '--strict', 'deploy/helm', ...words);
      expect(linted.stdout).toContain('1 chart(s) linted, 0 chart(s) failed');
      expect(linted.stdout).not.toMatch(/\[(?:WARNING|ERROR)\]/u);
      expect(linted.code).toBe(0);
    },
  );

  it('makes the objects of deploy/kubernetes, the same where both say the same', async () => {
    const plain = await runTool(tools.kubectl, 'kustomize', 'deploy/kubernetes');
    const optional = read('deploy/kubernetes/optional/servicemonitor.yaml');
    const differing = [...objectsIn(plain.stdout), ...objectsIn(optional)].flatMap((expected) => {
      const { kind, metadata } = expected;
      const made = objectsOf('plain').find(
        (each) => each.kind === kind && each.metadata.name === metadata.name,
      );
      return differencesOf(expected, made).map(([path]) => `${kind} ${metadata.name}${path}`);
    });
    const job = 'Job retention-migrate';
    const settings = Object.keys(one('plain', 'ConfigMap').data ?? {});
    const inContainer = `${job}/spec/template/spec/containers/migrate`;
    expect(differing.filter((path) => !path.endsWith('/metadata/namespace')).toSorted()).toEqual(
      [
        // Settings are read at the start; kustomize starts nothing again when one changes.
        'Deployment retention-listener/spec/template/metadata/annotations',
        // A hook comes before the ConfigMap and the service account, so it has its settings in itself.
        `${job}/metadata/annotations`,
        `${job}/spec/template/spec/serviceAccountName`,
        `${inContainer}/envFrom/0/configMapRef`,
        `${inContainer}/envFrom/0/secretRef`,
        `${inContainer}/envFrom/1/secretRef/name`,
        `${inContainer}/envFrom/2`,
        ...settings.map((name) => `${inContainer}/env/${name}`),
      ].toSorted(),
    );
    expect(objectsOf('plain').map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toHaveLength(
      objectsIn(plain.stdout).length + 1,
    );
  });

  it('scales by KEDA as deploy/kubernetes/optional does, and leaves the replicas to it', async () => {
    const objects = await renderChart(
      tools,
      'retention',
      ...NAMES_A_BUCKET,
      '--set',
      'keda.enabled=true',
    );
    const [expected] = objectsIn(read('deploy/kubernetes/optional/keda-scaledobject.yaml'));
    const made = objects.find(({ kind }) => kind === 'ScaledObject');
    expect(differencesOf(expected, made).map(([path]) => path)).toEqual(['/metadata/namespace']);
    expect(objects.find(({ kind }) => kind === 'Deployment')?.spec).not.toHaveProperty('replicas');
  });

  it('needs the Secrets of the example, and no others', () => {
    const secrets = objectsIn(read('deploy/kubernetes/secret.example.yaml'));
    expect(secretsOf(objectsOf('plain'))).toEqual(
      secrets.map(({ metadata }) => metadata.name).toSorted(),
    );
    expect(secretsOf(objectsOf('other-store'))).toContain('retention-store');
    for (const name of VALUE_FILES) {
      expect((rendered.get(name) ?? []).filter(({ kind }) => kind === 'Secret')).toEqual([]);
    }
  });

  it('gives the owner to the migration alone, and the operator to the verify alone', () => {
    const by = (secret: string): string[] =>
      objectsOf('everything')
        .filter((object) => secretsOf([object]).includes(secret))
        .map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect(by('retention-database-owner')).toEqual(['Job retention-migrate']);
    expect(by('retention-database-operator')).toEqual(['CronJob retention-verify']);
    const [migrate] = podsOf(one('everything', 'Job')).flatMap(({ spec }) => spec.containers);
    expect(migrate?.env?.filter(({ name }) => name.endsWith('_ROLE'))).toEqual([
      { name: 'RETENTION_ROLE', value: 'retention_listener' },
      { name: 'RETENTION_OPERATOR_ROLE', value: 'retention_operator' },
      { name: 'RETENTION_OBSERVER_ROLE', value: 'retention_observer' },
    ]);
  });

  it('refers only to what is there, whatever its values', () => {
    for (const [file, objects] of rendered) {
      const isThere = (kind: string, name: string): boolean =>
        objects.some((each) => each.kind === kind && each.metadata.name === name);
      const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
      expect(new Set(names).size, file).toBe(names.length);
      for (const object of objects) {
        const isHook = object.metadata.annotations?.['helm.sh/hook'] !== undefined;
        for (const { spec } of podsOf(object)) {
          for (const { configMapRef } of spec.containers.flatMap(({ envFrom }) => envFrom)) {
            if (configMapRef === undefined) continue;
            expect(isHook, `${file}: what a hook refers to is not there yet`).toBe(false);
            expect(isThere('ConfigMap', configMapRef.name), file).toBe(true);
          }
          const account = spec.serviceAccountName;
          expect(account === undefined, file).toBe(isHook);
          if (account !== undefined && account !== 'default') {
            expect(isThere('ServiceAccount', account), `${file}: ${account}`).toBe(true);
          }
        }
      }
    }
  });

  it('selects the listeners for service, scrape and budget, and every pod for the network', () => {
    for (const [file, objects] of rendered) {
      const pods = objects.flatMap(podsOf);
      const isSelected = (selector: object) =>
        pods.filter(({ labels }) =>
          Object.entries(selector).every(([name, value]) => labels[name] === value),
        );
      for (const { kind, spec } of objects) {
        const { selector, podSelector } = (spec ?? {}) as Record<string, Selector | undefined>;
        if (podSelector !== undefined) {
          expect(isSelected(podSelector.matchLabels ?? {}), file).toHaveLength(pods.length);
        } else if (selector !== undefined && kind !== 'ServiceMonitor') {
          const selected = isSelected(selector.matchLabels ?? selector);
          expect(
            selected.map((pod) => pod.spec.containers[0]?.args),
            `${file} ${kind}`,
          ).toEqual([['listen']]);
        }
      }
    }
  });

  it('sets only variables and runs only commands that there are', () => {
    const containers = [...rendered.values()].flat().flatMap(podsOf);
    const all = containers.flatMap(({ spec }) => spec.containers);
    expect(all.length).toBeGreaterThan(15);
    for (const { args, env = [] } of all) {
      expect(refusalOf({ words: args, isWhole: true })).toBeUndefined();
      const unknown = env.filter(({ name }) => !isKnownName(name) && !OF_NODE.includes(name));
      expect(unknown).toEqual([]);
    }
  });

  it('gives every value to a container as text, a large number as it was written', () => {
    const { data = {} } = one('everything', 'ConfigMap');
    expect(data).toMatchObject({
      DPP_RETENTION_MAX_DELETES_PER_SECOND: '1000000',
      DPP_RETENTION_DAYS: '90',
      DPP_JSON_LOGS: 'true',
    });
    const [migrate] = podsOf(one('everything', 'Job')).flatMap(({ spec }) => spec.containers);
    const inJob = Object.fromEntries((migrate?.env ?? []).map(({ name, value }) => [name, value]));
    expect(inJob).toMatchObject(data);
    expect(one('other-store', 'ConfigMap').data).toMatchObject({ DPP_JSON_LOGS: 'false' });
    expect(one('small', 'ConfigMap').data).not.toHaveProperty('DPP_RETENTION_CONCURRENCY');
  });

  it('waits longer for a listener to stop than the listener was told to take', () => {
    const graceOf = (name: string): unknown =>
      podsOf(one(name, 'Deployment'))[0]?.spec.terminationGracePeriodSeconds;
    expect(graceOf('plain')).toBe(40);
    expect(graceOf('everything')).toBe(75);
  });

  it('starts listeners again when a setting changes, and not otherwise', async () => {
    const sumWith = async (...more: readonly string[]): Promise<unknown> => {
      const objects = await renderChart(tools, 'retention', ...NAMES_A_BUCKET, ...more);
      const deployment = objects.find(({ kind }) => kind === 'Deployment');
      return deployment && podsOf(deployment)[0]?.annotations['checksum/config'];
    };
    const first = await sumWith();
    expect(await sumWith('--set', 'listener.replicas=5')).toBe(first);
    expect(await sumWith('--set', 'config.LOG_LEVEL=DEBUG')).not.toBe(first);
  });

  it('migrates before a release changes anything else', () => {
    expect(one('plain', 'Job').metadata.annotations).toEqual({
      'helm.sh/hook': 'pre-install,pre-upgrade',
      'helm.sh/hook-delete-policy': 'before-hook-creation',
    });
    expect(kindsOf('own-migrations')).not.toContain('Job');
  });

  it('keeps no node from being drained where there is one listener', () => {
    expect(kindsOf('small')).not.toContain('PodDisruptionBudget');
    expect(kindsOf('everything')).toContain('PodDisruptionBudget');
  });

  it('links the alerts to the operating guide where it is kept', () => {
    const { groups } = one('everything', 'PrometheusRule').spec as AlertGroups;
    const written = parse(
      read('deploy/prometheus/alerts.yaml').replaceAll(
        'RUNBOOK#',
        'https://wiki.example.com/retention#',
      ),
    ) as AlertGroups;
    expect(groups).toEqual(written.groups);
  });

  it('lets nobody in but who is named, and nothing out but to database, store and names', () => {
    const spec = one('everything', 'NetworkPolicy').spec as NetworkPolicy;
    expect(spec.ingress.map(({ from }) => from)).toEqual([
      [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
    ]);
    expect(spec.egress.map(({ ports = [] }) => ports.map(({ port }) => port))).toEqual([
      [53, 53],
      [5432, 6432, 443],
      [],
    ]);
    expect((one('locked-down', 'NetworkPolicy').spec as NetworkPolicy).ingress).toEqual([]);
  });

  it('names its objects after the release, or as it is told', async () => {
    expect(one('own-migrations', 'Deployment').metadata.name).toBe('dpp-expiry-listener');
    const long = await renderChart(tools, 'r'.repeat(53), ...NAMES_A_BUCKET);
    const longest = Math.max(...long.map(({ metadata }) => metadata.name.length));
    // What Kubernetes takes for a CronJob.
    expect(longest).toBeLessThanOrEqual(52);
  });

  it('runs the image by its digest where there is one', () => {
    const [container] = podsOf(one('locked-down', 'Deployment')).flatMap(
      ({ spec }) => spec.containers,
    );
    expect(container?.image).toMatch(/^registry\.internal\/team\/retention-reactor@sha256:/u);
  });

  it.each([
    ['no bucket named', [], /S3_RESULT_BUCKET is empty: name the buckets/u],
    ['a setting that there is not', ['config.DPP_RETENTION_DAY=3'], /DPP_RETENTION_DAY/u],
    ['an address with its password', ['config.DATABASE_URL=x'], /DATABASE_URL is not allowed/u],
    ['a value that there is not', ['replicas=3'], /replicas is not allowed/u],
    ['a count that is no number', ['listener.replicas=many'], /listener\.replicas: Invalid type/u],
    ['verify without an operator', ['secrets.operator='], /secrets\.operator is empty/u],
    ['no account to work as', ['serviceAccount.create=false'], /serviceAccount\.name is empty/u],
    ['a digest that is none', ['image.digest=latest'], /image\.digest/u],
  ] as const)('refuses %s, and says so', async (_what, values, expected) => {
    const bucket = expected.source.startsWith('S3_RESULT_BUCKET') ? [] : NAMES_A_BUCKET;
    const words = values.flatMap((value) => ['--set', value]);
    expect(await refusalOfChart(tools, ...bucket, ...words)).toMatch(expected);
  });
});

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
}

interface AlertGroups {
  readonly groups: readonly unknown[];
}

interface NetworkPolicy {
  readonly ingress: readonly { readonly from: unknown }[];
  readonly egress: readonly { readonly ports?: readonly { readonly port: unknown }[] }[];
}

/** The Secrets that objects need, without doubles. */
function secretsOf(objects: readonly KubeObject[]): string[] {
  const names = objects
    .flatMap(podsOf)
    .flatMap(({ spec }) => spec.containers)
    .flatMap(({ envFrom }) => envFrom.flatMap(({ secretRef }) => secretRef?.name ?? []));
  return [...new Set(names)].toSorted();
}
