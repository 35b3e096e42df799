import { createPool } from '../../src/database/pool.ts';
import type { Database } from '../../src/database/database.ts';
import { silentLogger } from '../../src/logger.ts';
import { installParts } from './install-parts.ts';
import { type MemoryS3, type MemoryS3Request, startMemoryS3 } from './memory-s3.ts';
import type { Narrator } from './narration.ts';
import { type PrivatePostgres, startPrivatePostgres } from './private-postgres.ts';
import { SAMPLE_BATCH_SIZE, SAMPLE_BUCKETS } from './sample-runs.ts';
import type { TidyUp } from './tidy-up.ts';

/** The application's database in the private PostgreSQL. */
export const DATABASE_NAME = 'app';

/** Longer than the tour, so that pg_cron flags once in it and what comes later is ours to flag. */
const TOUR_INTERVAL_SECONDS = 3_600;

/** What the tour runs on. */
export interface DemoStack {
  readonly postgres: PrivatePostgres;
  readonly s3: MemoryS3;
  readonly database: Database;
  /** The settings of the command and of the library. */
  readonly environment: Readonly<Record<string, string>>;
  /** How many DeleteObjects requests S3 has answered. */
  countDeleteRequests(): number;
}

const OTHER_STACKS = /^(?:DATABASE_|CRON_DATABASE_|DPP_|RETENTION_|S3_|AWS_|PG|LOG_LEVEL$)/;

/**
 * Takes variables out of this process's environment that are about another database, S3 or reactor:
 * they reach the command, psql, the driver and the migrations alike.
 */
export function forgetOtherStacks(): void {
  for (const name of Object.keys(process.env)) {
    if (OTHER_STACKS.test(name)) delete process.env[name];
  }
}

/** Starts the private PostgreSQL with pg_cron, installing what is missing, after saying so. */
export async function startDatabase(narrator: Narrator, tidyUp: TidyUp): Promise<PrivatePostgres> {
  await installParts(['postgres'], (line) => narrator.say(line));
  const postgres = await startPrivatePostgres({ cron: true, databaseName: DATABASE_NAME });
  tidyUp.add(() => postgres.stop());
  return postgres;
}

/** Starts the in-process S3 and puts the stack together. */
export async function startStack(
  postgres: PrivatePostgres,
  narrator: Narrator,
  tidyUp: TidyUp,
): Promise<DemoStack> {
  let deleteRequests = 0;
  const tellDeletion = ({ operation, bucket, keys, status }: MemoryS3Request): void => {
    if (operation !== 'DeleteObjects') return;
    deleteRequests += 1;
    const left = s3.countObjects(bucket);
    narrator.hear(
      's3',
      `DeleteObjects ${bucket}: ${keys.length} keys, answered ${status}; ${left} objects left there`,
    );
  };
  const s3 = await startMemoryS3({ onRequest: tellDeletion });
  tidyUp.add(() => s3.stop());
  for (const bucket of SAMPLE_BUCKETS) s3.createBucket(bucket);

  const database = createPool({
    url: postgres.url(),
    applicationName: 'retention tour',
    max: 2,
    logger: silentLogger,
  });
  tidyUp.add(() => database.close());
  return {
    postgres,
    s3,
    database,
    environment: settingsFor(postgres, s3),
    countDeleteRequests: () => deleteRequests,
  };
}

function settingsFor(postgres: PrivatePostgres, s3: MemoryS3): Readonly<Record<string, string>> {
  const [owner] = s3.users;
  return {
    DATABASE_URL: postgres.url(),
    S3_ENDPOINT_URL: s3.endpoint,
    S3_RESULT_BUCKET: SAMPLE_BUCKETS.join(','),
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: owner?.accessKeyId ?? '',
    AWS_SECRET_ACCESS_KEY: owner?.secretAccessKey ?? '',
    DPP_RETENTION_DAYS: '30',
    DPP_RETENTION_LOOP_INTERVAL_SECONDS: String(TOUR_INTERVAL_SECONDS),
    DPP_RETENTION_BATCH_SIZE: String(SAMPLE_BATCH_SIZE),
    DPP_JSON_LOGS: 'false',
  };
}
