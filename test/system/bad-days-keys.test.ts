import { createHash } from 'node:crypto';
import { expect, inject, test } from 'vitest';
import { runCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { isDeleteObjects } from '../support/http-proxy.ts';
import { makeBucket } from '../support/s3-target.ts';

/** The longest that S3 takes: 1,024 bytes of UTF-8, here also in two bytes a character. */
const LONGEST = ['x'.repeat(1_024), 'é'.repeat(512)];

/** Keys that S3 takes and that are hard to carry. */
const HARD = [
  'bell\u0001rings',
  'carriage\rreturn',
  'line\nfeed',
  'tab\there',
  'a&b<c>d"e\'f',
  ' blanks ',
  'plus+percent%20and%',
  '../up/./and/../down',
  '//twice//',
  'emoji 😀 and 한국어',
  '\uFFFE\uFFFF',
  ...LONGEST,
];

const realS3 = inject('realS3');

describeDatabase('a bad day of keys', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);

  /** Runs that are due, each with its own key and no object. */
  async function insertKeys(bucket: string, keys: readonly string[]): Promise<void> {
    await stack.database().query(
      `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select 'acme', 'COMPLETED', now() - interval '31 days', $1, k from unnest($2::text[]) k`,
      [bucket, keys],
    );
  }

  const stampedKeys = async (): Promise<string[]> => {
    const rows = await stack
      .database()
      .query<{ key: string }>(
        'select result_s3_key as key from runs where result_cleared_at is not null',
      );
    return rows.map(({ key }) => key).toSorted();
  };

  test('10: hard keys are deleted by their own names, and those that cannot be end alone and visibly', async () => {
    const plain = Array.from({ length: 20 }, (_, index) => `plain/${index}`);
    const impossible = 'x'.repeat(1_025);
    // What they would become if a character were dropped, replaced or normalised.
    const neighbours = [
      'bellrings',
      'bell\uFFFDrings',
      'carriage\nreturn',
      'blanks',
      'up/and/down',
    ];
    for (const key of [...HARD, ...plain, ...neighbours]) stack.s3().putObject('dpp-results', key);
    await insertKeys('dpp-results', [...HARD, ...plain, impossible, '']);
    const listener = await stack.listen();
    await stack.database().query('select retention.flag_expired()');
    await stack.cleared(HARD.length + plain.length);
    expect(await stampedKeys()).toEqual([...HARD, ...plain].toSorted());
    for (const key of neighbours) expect(stack.s3().hasObject('dpp-results', key)).toBe(true);
    expect(stack.s3().countObjects('dpp-results')).toBe(neighbours.length);

    // The empty key is no work: it is counted and named.
    await listener.waitForLine(/WARNING Run \S+ missing S3 info, skipping/u);
    // Neither is one that S3 cannot hold.
    await listener.waitForLine(/Not flagged: run \S+: its key has more than the 1024 bytes/u);
    expect(await stack.database().query('select key from retention.flagged')).toEqual([]);
    expect(stack.requests().flatMap(({ keys }) => keys)).not.toContain(impossible);
    // DeleteBucket is what an empty key in a path would be.
    expect(stack.requests().map(({ operation }) => operation)).not.toContain('DeleteBucket');
  });

  test('10: a lone surrogate cannot come from the database', async () => {
    await expect(stack.database().query(`select U&'\\D800'`)).rejects.toThrow(/surrogate/u);
  });

  test('10: a batch refused whole for one bad key is halved until the bad key stands alone', async () => {
    const [bad = '', ...others] = await stack.insertResults({ count: 64 });
    network
      .http()
      .steer((request) =>
        request.body.includes(`results/${bad}<`) ||
        (request.method === 'DELETE' && request.url.includes(bad))
          ? { kind: 'answer', status: 400, body: '<Error><Code>MalformedXML</Code></Error>' }
          : undefined,
      );
    await stack.database().query('select retention.flag_expired()');
    const listener = await stack.listen(network.env());
    await stack.cleared(others.length);
    await listener.waitForLine(`Failed to delete S3 object for run ${bad}: MalformedXML`);
    expect((await stack.database().run(bad)).result_cleared_at).toBeNull();
    expect(stack.s3().hasObject('dpp-results', `results/${bad}`)).toBe(true);
  });

  test('10: a store that wants Content-MD5 gets it', async () => {
    await stack.insertResults({ count: 30 });
    let wrong = 0;
    network.http().steer((request) => {
      if (!isDeleteObjects(request)) return undefined;
      const given = request.headers['content-md5'];
      if (given === createHash('md5').update(request.body).digest('base64')) return undefined;
      wrong += 1;
      const body =
        '<Error><Code>InvalidRequest</Code><Message>Missing required header for this request: Content-MD5</Message></Error>';
      return { kind: 'answer', status: 400, body };
    });
    await stack.database().set({ batch_size: '10' });
    const { stdout, code } = await stack.run(['reconcile', '--json'], {
      ...network.env(),
      DPP_RETENTION_CONCURRENCY: '1',
    });
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { cleared: 30, failed: 0 }]);
    // Found out once, and not per batch.
    expect(wrong).toBe(1);
    expect(await stack.countCleared()).toBe(30);
  });

  test('10: a store without DeleteObjects is asked one by one', async () => {
    await stack.insertResults({ count: 30 });
    network
      .http()
      .steer((request) =>
        isDeleteObjects(request)
          ? { kind: 'answer', status: 501, body: '<Error><Code>NotImplemented</Code></Error>' }
          : undefined,
      );
    const { stdout, code } = await stack.run(['reconcile', '--json'], network.env());
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { cleared: 30, failed: 0 }]);
    expect(await stack.countCleared()).toBe(30);
    expect(stack.s3().countObjects('dpp-results')).toBe(0);
  });

  test.skipIf(realS3.kind === 'missing')(
    '10: hard keys are deleted by their own names in a real S3',
    async () => {
      if (realS3.kind === 'missing') return;
      const { endpoint, region, owner } = realS3.target;
      const bucket = await makeBucket(realS3.target);
      // Not those that XML cannot carry: what is left is asked for in XML.
      const keys = HARD.filter((key) => !['\u0001', '\uFFFE'].some((it) => key.includes(it)));
      const kept = ['blanks', 'up/and/down'];
      await bucket.put(...keys, ...kept);
      await insertKeys(bucket.name, keys);
      const { stdout, code } = await runCli(['reconcile', '--json'], {
        env: {
          DATABASE_URL: stack.database().url,
          S3_ENDPOINT_URL: endpoint,
          S3_RESULT_BUCKET: '*',
          AWS_REGION: region,
          AWS_ACCESS_KEY_ID: owner.accessKeyId,
          AWS_SECRET_ACCESS_KEY: owner.secretAccessKey,
        },
      });
      expect([code, JSON.parse(stdout)]).toMatchObject([0, { cleared: keys.length, failed: 0 }]);
      expect(await bucket.keys()).toEqual(kept);
      expect(await stampedKeys()).toEqual(keys.toSorted());
    },
  );
});
