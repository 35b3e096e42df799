import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { type Ceph, startCeph } from '../../../support/ceph.ts';
import { type Bench, BUCKET, type BenchDatabase, type Scenario } from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { startPart } from '../processes.ts';
import { drainShown, startListener } from '../work.ts';
import { flaggedDatabase } from './drain.ts';

const CONCURRENCY = 4;
const PUTS_AT_ONCE = 16;

/** Against a real store, where deleting is what takes the time. */
export const ceph: Scenario = {
  name: 'ceph',
  run: async (bench) => {
    let store: Ceph;
    try {
      store = await startCeph();
    } catch (error) {
      bench.say(`ceph: left out, for it cannot be had here: ${String(error)}`);
      return [];
    }
    const client = new S3Client({
      endpoint: store.endpoint,
      region: store.region,
      credentials: store.owner,
      forcePathStyle: true,
    });
    try {
      return await compare(bench, store, client);
    } finally {
      client.destroy();
      await store.stop();
    }
  },
};

async function compare(bench: Bench, store: Ceph, client: S3Client): Promise<Figure[]> {
  const rows = bench.rows(10_000);
  const base = await flaggedDatabase(bench, rows);
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
  const keys = (await base.query<{ key: string }>('select result_s3_key as key from runs')).map(
    ({ key }) => key,
  );
  const seconds = { alone: [] as number[], drain: [] as number[] };
  for (let run = 0; run < bench.options.runs; run += 1) {
    bench.say(`ceph: run ${run + 1}`);
    await putAll(client, keys);
    seconds.alone.push(await bench.onCopy(base, (copy) => deleteAlone(store, copy, rows)));
    await putAll(client, keys);
    seconds.drain.push(await bench.onCopy(base, (copy) => drainCeph(store, copy)));
  }
  await base.drop();
  const rate = (some: readonly number[]): number[] => some.map((each) => rows / each);
  const perSecond = (some: readonly number[]): string => `${Math.round(median(rate(some)))}/s`;
  return [
    {
      name: 'drain-ceph',
      title: "drain against Ceph's gateway / DeleteObjects alone against it",
      unit: '×',
      samples: ratios(rate(seconds.drain), rate(seconds.alone)),
      target: { is: 'at least', value: 0.9 },
      detail: `drain ${perSecond(seconds.drain)}, DeleteObjects ${perSecond(seconds.alone)}`,
    },
  ];
}

async function putAll(client: S3Client, keys: readonly string[]): Promise<void> {
  const queue = keys.values();
  const put = async (): Promise<void> => {
    for (const Key of queue) {
      await client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: 'result' }));
    }
  };
  await Promise.all(Array.from({ length: PUTS_AT_ONCE }, put));
}

async function deleteAlone(store: Ceph, copy: BenchDatabase, rows: number): Promise<number> {
  const part = await startPart('floor');
  const { endpoint, region, owner: credentials } = store;
  const place = { url: copy.url, endpoint, region, credentials, bucket: BUCKET };
  try {
    await part.ask({ prepare: place, concurrency: CONCURRENCY, rows });
    const { seconds } = await part.ask<{ seconds: number }>({ go: 'delete' });
    await part.ask({ end: true });
    return seconds;
  } finally {
    await part.stop();
  }
}

async function drainCeph(store: Ceph, copy: BenchDatabase): Promise<number> {
  const listener = await startListener(copy, {
    S3_ENDPOINT_URL: store.endpoint,
    AWS_REGION: store.region,
    AWS_ACCESS_KEY_ID: store.owner.accessKeyId,
    AWS_SECRET_ACCESS_KEY: store.owner.secretAccessKey,
  });
  try {
    return await drainShown(copy);
  } finally {
    await listener.stop();
  }
}
