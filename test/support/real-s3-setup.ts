import type { TestProject } from 'vitest/node';
import { type Ceph, startCeph } from './ceph.ts';
import type { S3Target } from './s3-target.ts';

/** What every test file is told about the run's real S3 server. */
export type RealS3 =
  | { readonly kind: 'running'; readonly name: string; readonly target: S3Target }
  | { readonly kind: 'missing'; readonly reason: string };

declare module 'vitest' {
  /** Vitest's way of typing what a set-up provides. */
  export interface ProvidedContext {
    realS3: RealS3;
  }
}

let ceph: Ceph | undefined;

/**
 * Finds the run's real S3: the one that `S3_TEST_ENDPOINT` names, with the credentials of the usual
 * AWS variables, or else a Ceph of our own. Tells the tests why there is none.
 */
export async function setup(project: TestProject): Promise<void> {
  try {
    project.provide('realS3', namedByEnvironment() ?? (await ownCeph()));
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`Tests that need a real S3 are skipped: ${reason}\n`);
    project.provide('realS3', { kind: 'missing', reason });
  }
}

/** Stops what was started here. */
export async function teardown(): Promise<void> {
  await ceph?.stop();
  ceph = undefined;
}

async function ownCeph(): Promise<RealS3> {
  ceph = await startCeph();
  const { endpoint, region, owner, other } = ceph;
  return { kind: 'running', name: 'Ceph', target: { endpoint, region, owner, other } };
}

function namedByEnvironment(): RealS3 | undefined {
  const endpoint = process.env['S3_TEST_ENDPOINT'];
  if (endpoint === undefined || endpoint === '') return undefined;
  const accessKeyId = process.env['AWS_ACCESS_KEY_ID'];
  const secretAccessKey = process.env['AWS_SECRET_ACCESS_KEY'];
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new Error(
      'S3_TEST_ENDPOINT names a server, but AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY do not ' +
        'say how to get in.',
    );
  }
  const region = process.env['AWS_REGION'] ?? 'us-east-1';
  const owner = { accessKeyId, secretAccessKey };
  return { kind: 'running', name: endpoint, target: { endpoint, region, owner } };
}
