import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import type { S3ObjectStoreOptions } from '../../src/objects/s3/connection.ts';
import { type S3ObjectStore, createS3ObjectStore } from '../../src/objects/s3/object-store.ts';
import { type ScriptedS3, type Script, type SeenRequest, startScriptedS3 } from './scripted-s3.ts';

/** A scripted server for a test file, and stores that talk to it. */
export interface ScriptedStore {
  /** What has been asked since the script began. */
  readonly requests: () => readonly SeenRequest[];
  readonly play: (script: Script) => void;
  /** A store that asks once, unless the test says otherwise; closed after the test. */
  readonly open: (options?: S3ObjectStoreOptions) => S3ObjectStore;
}

/** Starts a scripted server for the file that calls this, and stops it afterwards. */
export function useScriptedStore(): ScriptedStore {
  let s3: ScriptedS3 | undefined;
  let opened: { close(): void }[] = [];
  const server = (): ScriptedS3 => {
    if (!s3) throw new Error('The server is only there inside tests.');
    return s3;
  };
  beforeAll(async () => {
    s3 = await startScriptedS3();
  });
  afterEach(() => {
    for (const store of opened) store.close();
    opened = [];
  });
  afterAll(() => s3?.stop());
  return {
    requests: () => server().requests,
    play: (script) => server().play(script),
    open: (options = {}) => {
      const store = createS3ObjectStore({ ...once(server()), ...options });
      opened.push(store);
      return store;
    },
  };
}

function once({ endpoint }: ScriptedS3): S3ObjectStoreOptions {
  return {
    endpoint,
    region: 'us-east-1',
    maxAttempts: 1,
    clientConfig: { credentials: { accessKeyId: 'A', secretAccessKey: 'S' } },
  };
}

/** The error of a call that must fail as a whole. */
export async function failure(call: Promise<unknown>): Promise<ObjectStoreError> {
  const error: unknown = await call.then(
    () => new Error('the call succeeded'),
    (it: unknown) => it,
  );
  expect(error).toBeInstanceOf(ObjectStoreError);
  return error as ObjectStoreError;
}

/** How long something took, in milliseconds. */
export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
