import { PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll } from 'vitest';
import { DEFAULT_USERS, type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import type { Variables } from './cli.ts';
import { memoryS3Variables } from './cli-stack.ts';
import { startOwnPostgres } from './database.ts';

/** Runs to insert, with an object for each. */
export interface OperatorRuns {
  /** Default: 1. */
  readonly count?: number;
  /** Default: `tenant_abc`. */
  readonly tenant?: string;
  /** Default: 40. */
  readonly days?: number;
  /** Default: `dpp-results`. */
  readonly bucket?: string;
  /** Their key is empty, and there is no object. Default: false. */
  readonly isWithoutKey?: boolean;
  /** Their objects are gone already. Default: false. */
  readonly isWithoutObject?: boolean;
  /** Default: `results/`, and the run's id follows. */
  readonly prefix?: string;
}

/** What somebody operates who follows the documents: a server with pg_cron, an S3, and no schema yet. */
export interface OperatorStack {
  readonly server: () => PrivatePostgres;
  readonly s3: () => MemoryS3;
  /** The S3's own client, as the bucket's owner. */
  readonly client: () => S3Client;
  /** How the command finds both, as the database's superuser. */
  readonly variables: () => Variables;
  /** Inserts runs with their objects; returns their ids. */
  readonly insert: (runs?: OperatorRuns) => Promise<string[]>;
  /** How many rows a condition holds for, in the application's table. */
  readonly count: (condition: string) => Promise<number>;
  readonly keepVersions: () => Promise<unknown>;
}

/** The owner of the application's table, as the documents call it. */
export const OWNER = 'app_owner';

/** Makes the stack for the tests of the `describe` that calls it. */
export function useOperatorStack(): OperatorStack {
  let server: PrivatePostgres | undefined;
  let s3: MemoryS3 | undefined;
  let client: S3Client | undefined;

  beforeAll(async () => {
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
    const { endpoint, region } = s3;
    const credentials = DEFAULT_USERS[0];
    client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
    server = await startOwnPostgres();
    await server.sql(`create role ${OWNER} login; alter table runs owner to ${OWNER}`);
  });
  afterAll(async () => {
    client?.destroy();
    await s3?.stop();
    await server?.stop();
  });

  const the = <Part>(part: Part | undefined): Part => {
    if (part === undefined) throw new Error('The stack is only there inside tests.');
    return part;
  };
  return {
    server: () => the(server),
    s3: () => the(s3),
    client: () => the(client),
    variables: () => ({
      DATABASE_URL: the(server).url(),
      DPP_JSON_LOGS: 'false',
      ...memoryS3Variables(the(s3)),
    }),
    insert: async (runs = {}) => {
      const { count = 1, tenant = 'tenant_abc', days = 40, prefix = 'results/' } = runs;
      const { bucket = 'dpp-results', isWithoutKey = false, isWithoutObject = false } = runs;
      const printed = await the(server).sql(
        `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select id, '${tenant}', 'COMPLETED', now() - interval '${days} days',
          '${bucket}', ${isWithoutKey ? "''" : `'${prefix}' || id`}
        from (select gen_random_uuid() as id from generate_series(1, ${count})) made
        returning run_id`,
      );
      const runIds = printed.split('\n');
      if (!isWithoutKey) {
        the(s3).createBucket(bucket);
        if (isWithoutObject) return runIds;
        for (const runId of runIds) the(s3).putObject(bucket, `${prefix}${runId}`);
      }
      return runIds;
    },
    count: async (condition) =>
      Number(await the(server).sql(`select count(*) from runs where ${condition}`)),
    keepVersions: () =>
      the(client).send(
        new PutBucketVersioningCommand({
          Bucket: 'dpp-results',
          VersioningConfiguration: { Status: 'Enabled' },
        }),
      ),
  };
}
