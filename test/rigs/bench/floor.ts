import { setTimeout as delay } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import pg from 'pg';
import { answerQuestions } from './processes.ts';
import { STAMP } from './stamp.ts';

/*
The least work that can do the job, as a sensible person would write it: no lease, no check, no
count. In a process of its own, like the reactor.
*/

interface Place {
  readonly url: string;
  readonly endpoint: string;
  readonly bucket: string;
  readonly region?: string;
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

interface Batch {
  readonly runIds: string[];
  readonly keys: string[];
}

let place: Place | undefined;
let client: S3Client | undefined;
let batches: Batch[] = [];
let sessions: pg.Client[] = [];

async function prepare(question: Preparation): Promise<void> {
  const { prepare: given, concurrency, rows, batch = 1_000 } = question;
  place = given;
  client = new S3Client({
    endpoint: given.endpoint,
    forcePathStyle: true,
    ...(given.region === undefined ? {} : { region: given.region }),
    ...(given.credentials === undefined ? {} : { credentials: given.credentials }),
  });
  sessions = await Promise.all(
    Array.from({ length: concurrency }, async () => {
      const session = new pg.Client({ connectionString: given.url });
      await session.connect();
      return session;
    }),
  );
  const found = await sessions[0]?.query<{ run_id: string; key: string }>(
    `select run_id, result_s3_key as key from runs where result_cleared_at is null
    order by completed_at limit $1`,
    [rows],
  );
  batches = [];
  for (let index = 0; index < (found?.rows.length ?? 0); index += batch) {
    const some = found?.rows.slice(index, index + batch) ?? [];
    batches.push({ runIds: some.map((it) => it.run_id), keys: some.map((it) => it.key) });
  }
}

/** DeleteObjects and one UPDATE per batch, `concurrency` at once: takes all, or the first so many. */
async function floor(stamp: boolean, limit = Infinity): Promise<{ seconds: number }> {
  const startedAt = performance.now();
  const queue = batches.splice(0, limit).values();
  await Promise.all(
    sessions.map(async (session) => {
      for (const { runIds, keys } of queue) {
        const { Deleted } = await theClient().send(
          new DeleteObjectsCommand({
            Bucket: place?.bucket,
            Delete: { Objects: keys.map((Key) => ({ Key })) },
          }),
        );
        if (Deleted?.length !== keys.length) throw new Error('not every key was deleted');
        if (stamp) await session.query({ name: 'stamp', text: STAMP, values: [runIds] });
      }
    }),
  );
  return { seconds: (performance.now() - startedAt) / 1_000 };
}

/** The runbook's way: one DeleteObject per run, one after the other, then one UPDATE. */
async function loop(): Promise<{ seconds: number }> {
  const startedAt = performance.now();
  for (const { runIds, keys } of batches) {
    for (const Key of keys) {
      await theClient().send(new DeleteObjectCommand({ Bucket: place?.bucket, Key }));
    }
    await sessions[0]?.query(STAMP, [runIds]);
  }
  return { seconds: (performance.now() - startedAt) / 1_000 };
}

/** The bare sequence behind one reaction: a NOTIFY there and back, one request, one UPDATE. */
async function sequence(times: number, quiet: number): Promise<{ milliseconds: number[] }> {
  const [session, listening] = sessions;
  if (session === undefined || listening === undefined) throw new Error('two sessions are needed');
  await listening.query('listen bare');
  const milliseconds: number[] = [];
  for (const { runIds, keys } of batches.slice(0, times)) {
    await delay(quiet);
    const startedAt = performance.now();
    const heard = new Promise((resolve) => listening.once('notification', resolve));
    await session.query('notify bare');
    await heard;
    await theClient().send(
      new DeleteObjectsCommand({
        Bucket: place?.bucket,
        Delete: { Objects: keys.map((Key) => ({ Key })) },
      }),
    );
    await session.query({ name: 'stamp', text: STAMP, values: [runIds] });
    milliseconds.push(performance.now() - startedAt);
  }
  return { milliseconds };
}

/** Pages through a listing and looks at nothing. */
async function page(): Promise<{ seconds: number; objects: number }> {
  const startedAt = performance.now();
  let token: string | undefined;
  let objects = 0;
  do {
    const reply = await theClient().send(
      new ListObjectsV2Command({ Bucket: place?.bucket, ContinuationToken: token }),
    );
    objects += reply.Contents?.length ?? 0;
    token = reply.NextContinuationToken;
  } while (token !== undefined);
  return { seconds: (performance.now() - startedAt) / 1_000, objects };
}

function theClient(): S3Client {
  if (client === undefined) throw new Error('nothing is prepared');
  return client;
}

async function end(): Promise<void> {
  client?.destroy();
  await Promise.all(sessions.splice(0).map((session) => session.end()));
  batches = [];
}

interface Preparation {
  readonly prepare: Place;
  readonly concurrency: number;
  readonly rows: number;
  /** Keys per request. Default: 1,000. */
  readonly batch?: number;
}

type Question =
  | Preparation
  | { readonly go: 'floor'; readonly batches?: number }
  | { readonly go: 'delete' | 'loop' | 'page' }
  | { readonly go: 'sequence'; readonly times: number; readonly quietMilliseconds: number }
  | { readonly end: true };

answerQuestions(async (question: Question) => {
  if ('prepare' in question) {
    return prepare(question);
  }
  if ('end' in question) return end();
  switch (question.go) {
    case 'floor':
      return floor(true, question.batches);
    case 'delete':
      return floor(false);
    case 'loop':
      return loop();
    case 'page':
      return page();
    case 'sequence':
      return sequence(question.times, question.quietMilliseconds);
  }
});
