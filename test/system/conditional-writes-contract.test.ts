import { describe, expect, test } from 'vitest';
import { onBothServers } from '../support/both-servers.ts';
import { deny, makeBucket, type S3Target } from '../support/s3-target.ts';

const KEY = '.retention/fence-a';

function contract(target: () => S3Target): void {
  describe('writing on a condition', () => {
    test('an object is written where there is none, and no second time', async () => {
      const bucket = await makeBucket(target());
      const { conditional } = bucket.open();
      expect(await conditional.readObject(bucket.name, KEY)).toBeUndefined();
      expect(await conditional.writeObject(bucket.name, { key: KEY, body: 'one' })).toBe(true);
      expect(await conditional.writeObject(bucket.name, { key: KEY, body: 'two' })).toBe(false);
      expect(await conditional.readObject(bucket.name, KEY)).toMatchObject({ body: 'one' });
    });

    test('it takes the place of the one that was read, and of no other', async () => {
      const bucket = await makeBucket(target());
      const { conditional } = bucket.open();
      await conditional.writeObject(bucket.name, { key: KEY, body: 'one' });
      const instead = (await conditional.readObject(bucket.name, KEY))?.etag;
      const write = (body: string) =>
        conditional.writeObject(bucket.name, { key: KEY, body, instead });
      expect(await write('two')).toBe(true);
      expect(await write('three')).toBe(false);
      expect(await conditional.readObject(bucket.name, KEY)).toMatchObject({ body: 'two' });
    });

    test('of an object that is gone, none takes the place', async () => {
      const bucket = await makeBucket(target());
      const { conditional } = bucket.open();
      const instead = '"00000000000000000000000000000000"';
      expect(await conditional.writeObject(bucket.name, { key: KEY, body: 'x', instead })).toBe(
        false,
      );
      expect(await bucket.keys()).toEqual([]);
    });

    test('of ten that write at once, one wins', async () => {
      const bucket = await makeBucket(target());
      const { conditional } = bucket.open();
      await conditional.writeObject(bucket.name, { key: KEY, body: 'first' });
      const instead = (await conditional.readObject(bucket.name, KEY))?.etag;
      const bodies = Array.from({ length: 10 }, (_, at) => `writer ${at}`);
      const written = await Promise.all(
        bodies.map((body) => conditional.writeObject(bucket.name, { key: KEY, body, instead })),
      );
      expect(written.filter(Boolean)).toHaveLength(1);
      const winner = bodies[written.indexOf(true)];
      expect(await conditional.readObject(bucket.name, KEY)).toMatchObject({ body: winner });
    });

    test('also in a bucket that keeps versions', async () => {
      const bucket = await makeBucket(target(), { versioned: true });
      const { conditional } = bucket.open();
      await conditional.writeObject(bucket.name, { key: KEY, body: 'one' });
      await bucket.open().deleteObjects(bucket.name, [KEY]);
      expect(await conditional.readObject(bucket.name, KEY)).toBeUndefined();
      expect(await conditional.writeObject(bucket.name, { key: KEY, body: 'two' })).toBe(true);
    });

    test('with an object lock it cannot be deleted before its time', async () => {
      const bucket = await makeBucket(target(), { objectLock: true });
      const { conditional, versions } = bucket.open();
      const lockedUntil = new Date(Date.now() + 5_000);
      const object = { key: KEY, body: 'one', lockedUntil };
      expect(await conditional.writeObject(bucket.name, object)).toBe(true);
      const { failures } = await versions.purgeKeys(bucket.name, [KEY]);
      expect(failures).toMatchObject([{ key: KEY, code: 'ObjectLocked' }]);
    });

    test('what may not be read or written fails with the right that is missing', async () => {
      const bucket = await makeBucket(target());
      const { conditional } = bucket.open();
      await conditional.writeObject(bucket.name, { key: KEY, body: 'one' });
      await deny(bucket, ['s3:PutObject', 's3:GetObject'], '.retention/*');
      await expect(conditional.readObject(bucket.name, KEY)).rejects.toMatchObject({
        kind: 'denied',
        missingAction: 's3:GetObject',
      });
      await expect(
        conditional.writeObject(bucket.name, { key: '.retention/other', body: 'x' }),
      ).rejects.toMatchObject({ kind: 'denied', missingAction: 's3:PutObject' });
    });
  });
}

onBothServers(contract);
