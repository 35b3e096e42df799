import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { startMemoryS3 } from '../stack/memory-s3.ts';
import { type Variables, runCli, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { FENCE_BUCKET, snapshotOf } from '../support/fences.ts';
import { startHttpProxy } from '../support/http-proxy.ts';
import { useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

const QUICK = fileURLToPath(new URL('../support/quick-fence.mjs', import.meta.url));

describeDatabase(
  'promise 13: a listener that was stopped while another database took the fence',
  () => {
    const database = useMigrated();

    test('sends no request to delete when it goes on, neither for the batch in hand nor for others', async () => {
      const s3 = await startMemoryS3();
      onTestFinished(() => s3.stop());
      s3.createBucket(FENCE_BUCKET);
      let deletions = 0;
      const proxy = await startHttpProxy(s3.endpoint, ({ request: { method, url } }) => {
        if (method === 'DELETE' || (method === 'POST' && /[?&]delete/u.test(url))) deletions += 1;
      });
      onTestFinished(() => proxy.close());
      const env: Variables = {
        ...memoryS3Variables(s3),
        S3_RESULT_BUCKET: FENCE_BUCKET,
        RETENTION_SCHEDULER: 'internal',
        RETENTION_POLL_SECONDS: '1',
        RETENTION_FENCE: 's3',
        DPP_JSON_LOGS: 'false',
      };
      const listenTo = (url: string, endpoint: string) => {
        const variables = { ...env, DATABASE_URL: url, S3_ENDPOINT_URL: endpoint };
        const listener = startCli(['listen'], { env: variables, main: QUICK });
        onTestFinished(() => listener[Symbol.asyncDispose]());
        return listener;
      };
      const addDue = async (): Promise<void> => {
        for (const run of await database().insertRuns({ count: 5, bucket: FENCE_BUCKET })) {
          s3.putObject(FENCE_BUCKET, `results/${run}`);
        }
      };
      const copy = await snapshotOf(database().url);

      // It has claimed a batch and looks whether the objects are there, which comes right before their deletion.
      let answer = (): void => undefined;
      const answered = new Promise<void>((resolve) => (answer = resolve));
      proxy.steer(({ method, url }) =>
        method === 'HEAD' && url.includes('results/')
          ? { kind: 'hold-reply', until: answered }
          : undefined,
      );
      await addDue();
      const stopped = listenTo(database().url, proxy.endpoint);
      await until('it looks for the objects', () => (proxy.injected.get('hold-reply') ?? 0) > 0, {
        limitMs: 30_000,
      });
      stopped.kill('SIGSTOP');
      onTestFinished(() => stopped.kill('SIGCONT'));

      const other = listenTo(copy, s3.endpoint);
      await other.waitForLine('another database renewed the fence', 30_000);
      const accepted = await runCli(['fence', 'accept', '--yes'], {
        env: { ...env, DATABASE_URL: copy, S3_ENDPOINT_URL: s3.endpoint },
      });
      expect(accepted).toMatchObject({ code: 0 });
      await other.waitForLine('claiming goes on', 30_000);
      await addDue();
      answer();
      proxy.heal();
      expect(deletions).toBe(0);

      stopped.kill('SIGCONT');
      await stopped.waitForLine(
        /another database (?:renewed|has) the fence|this may be a copy/u,
        30_000,
      );
      await until(
        'it has given its batch back',
        async () => {
          const [held] = await database().query(
            'select count(*)::int as batches from retention.batch where lease is not null',
          );
          return held?.['batches'] === 0;
        },
        { limitMs: 30_000 },
      );
      stopped.kill();
      await stopped.ended();
      expect(deletions).toBe(0);
      expect(await database().countStamped()).toBe(0);
      expect(s3.countObjects(FENCE_BUCKET)).toBe(11);
    });
  },
);
