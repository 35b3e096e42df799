import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { type KubeTools, runTool } from './kube-tools.ts';
import { ROOT } from './project-files.ts';

const CHART = join(ROOT, 'deploy/helm');

/** An object of Kubernetes, as far as the tests look into it. */
export interface KubeObject {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: unknown;
}

/** A pod that an object makes. */
export interface Pod {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: {
    readonly serviceAccountName?: string;
    readonly terminationGracePeriodSeconds?: number;
    readonly containers: readonly Container[];
  };
}

/** A container of a pod. */
export interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly envFrom: readonly {
    readonly configMapRef?: { readonly name: string };
    readonly secretRef?: { readonly name: string };
  }[];
}

/** The objects of a YAML stream. */
export function objectsIn(yaml: string): KubeObject[] {
  return parseAllDocuments(yaml).map((document) => {
    const [error] = [...document.errors, ...document.warnings];
    if (error !== undefined) throw error;
    return document.toJS() as KubeObject;
  });
}

/**
 * Renders the chart as a release.
 *
 * @param parameters what is said to helm beside, such as `--values FILE` or `--set`.
 * @throws when helm refuses.
 */
export async function renderChart(
  tools: KubeTools,
  release: string,
  ...parameters: readonly string[]
): Promise<KubeObject[]> {
  const { code, stdout, stderr } = await runTool(
    tools.helm,
    'template',
    release,
    CHART,
    ...parameters,
  );
  if (code !== 0) throw new Error(stderr);
  return objectsIn(stdout);
}

/** What helm says against an installation; empty: nothing. */
export async function refusalOfChart(
  tools: KubeTools,
  ...parameters: readonly string[]
): Promise<string> {
  const { code, stderr } = await runTool(tools.helm, 'template', 'r', CHART, ...parameters);
  return code === 0 ? '' : stderr;
}

/** The pods that an object makes. */
export function podsOf(object: KubeObject): Pod[] {
  return podsIn(object.spec);
}

function podsIn(node: unknown): Pod[] {
  if (typeof node !== 'object' || node === null) return [];
  const { template } = node as {
    readonly template?: { readonly metadata?: Partial<Pod>; readonly spec: unknown };
  };
  const spec = template?.spec as Pod['spec'] | undefined;
  const own = spec !== undefined && 'containers' in spec;
  if (own) {
    const { labels = {}, annotations = {} } = template?.metadata ?? {};
    return [{ labels, annotations, spec }];
  }
  return Object.values(node).flatMap(podsIn);
}

/** A place where two objects differ: its path, and what each has there. */
export type Difference = readonly [path: string, left: unknown, right: unknown];

/** Where two values differ. Lists of named things are compared by name, labels not at all. */
export function differencesOf(left: unknown, right: unknown, path = ''): Difference[] {
  if (isRecord(left) && isRecord(right)) {
    const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
    keys.delete('labels');
    return [...keys].flatMap((key) => differencesOf(left[key], right[key], `${path}/${key}`));
  }
  if (Array.isArray(left) && Array.isArray(right))
    return differencesOf(byName(left), byName(right), path);
  return left === right ? [] : [[path, left, right]];
}

function byName(list: readonly unknown[]): Record<string, unknown> {
  return Object.fromEntries(
    list.map((each, index) => {
      const name = isRecord(each) ? each['name'] : undefined;
      return [typeof name === 'string' ? name : index, each];
    }),
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
