import type { DemoStack } from './demo-stack.ts';
import type { Narrator } from './narration.ts';
import type { PsqlWatch } from './psql-watch.ts';
import type { RetentionCommand } from './retention-command.ts';
import { SAMPLE_BUCKETS } from './sample-runs.ts';
import type { TidyUp } from './tidy-up.ts';

/** What the steps of the tour share. */
export interface Tour {
  readonly narrator: Narrator;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  readonly tidyUp: TidyUp;
  readonly stack: DemoStack;
  readonly psql: PsqlWatch;
  /** The listener that was started last. */
  listener: RetentionCommand | undefined;
  /** What it has logged. */
  listenerLog: string[];
  /** A due run to look at before and after. */
  sampleRunId: string;
}

/** What S3 and the table say at one moment. */
export interface Moment {
  readonly objects: number;
  readonly deleteRequests: number;
  /** Runs whose result_cleared_at is set. */
  readonly stamped: number;
}

/** Looks at S3 and at the application's table. */
export async function lookNow({ stack }: Tour): Promise<Moment> {
  const [row] = await stack.database.query<{ stamped: number }>(
    'select count(*) as stamped from public.runs where result_cleared_at is not null',
  );
  return {
    objects: countObjects(stack),
    deleteRequests: stack.countDeleteRequests(),
    stamped: row?.stamped ?? 0,
  };
}

/** How many objects there are in all buckets. */
export function countObjects({ s3 }: DemoStack): number {
  return SAMPLE_BUCKETS.reduce((sum, bucket) => sum + s3.countObjects(bucket), 0);
}
