import { PutObjectCommand } from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { onBothServers } from '../support/both-servers.ts';
import { expectAllDeleted } from '../support/reports.ts';
import { type S3Target, makeBucket } from '../support/s3-target.ts';

/** What a store must do with an etag, or be found not to do. */
function contract(target: () => S3Target): void {
  describe.each([false, true])('deleting by etag, in a bucket with versions: %s', (versioned) => {
    async function filled(...keys: readonly string[]) {
      const bucket = await makeBucket(target(), { versioned });
      const etags = new Map<string, string>();
      for (const Key of keys) {
        const request = { Bucket: bucket.name, Key, Body: `of ${Key}` };
        const { ETag = '' } = await bucket.client.send(new PutObjectCommand(request));
        etags.set(Key, ETag.replaceAll('"', ''));
      }
      return { bucket, etags };
    }

    test('takes what has it, with one request, and odd keys too', async () => {
      const keys = ['a', 'b c', 'd&<e>', 'f\ng'];
      const { bucket, etags } = await filled(...keys);
      const report = await bucket.open().deleteObjects(bucket.name, keys, { etags });
      expectAllDeleted(report, keys);
      expect(await bucket.keys()).toEqual([]);
    });

    test('takes what was never there, or is gone, for gone', async () => {
      const { bucket, etags } = await filled('gone', 'there');
      const store = bucket.open();
      expectAllDeleted(await store.deleteObjects(bucket.name, ['gone'], { etags }), ['gone']);
      etags.set('never', 'd41d8cd98f00b204e9800998ecf8427e');
      const report = await store.deleteObjects(bucket.name, ['gone', 'never', 'there'], { etags });
      expect(new Set(report.deleted)).toEqual(new Set(['gone', 'never', 'there']));
      expect(report.failures).toEqual([]);
    });

    test('does with another one what the trial finds, together and singly', async () => {
      for (const deletes of ['together', 'singly'] as const) {
        const { bucket, etags } = await filled('same', 'other');
        etags.set('other', 'd41d8cd98f00b204e9800998ecf8427e');
        const store = bucket.open();
        const habits = { deletes };
        const probe = await store.inspection.probeConditions?.(bucket.name, { habits });
        expect(await bucket.keys()).toEqual(['other', 'same']);
        const report = await store
          .deleteObjects(bucket.name, ['same', 'other'], { etags, habits })
          .catch((error: unknown) => error);
        if (probe?.found === 'honoured') {
          expect(report).toMatchObject({
            deleted: ['same'],
            failures: [{ key: 'other', outcome: 'changed' }],
          });
          expect(await bucket.keys()).toEqual(['other']);
        } else if (probe?.found === 'ignored') {
          expect(await bucket.keys()).toEqual([]);
        } else {
          expect({ probe, report }).toMatchObject({
            probe: { found: 'refused' },
            report: { code: 'ConditionRefused' },
          });
          expect(await bucket.keys()).toEqual(['other', 'same']);
        }
      }
    });

    test('purges what has it with all its versions, and nothing of what was written again', async () => {
      const { bucket, etags } = await filled('same', 'other');
      const again = { Bucket: bucket.name, Key: 'other', Body: 'written again' };
      await bucket.client.send(new PutObjectCommand(again));
      const report = await bucket
        .open()
        .versions.purgeKeys(bucket.name, ['same', 'other'], { etags });
      expect(report).toMatchObject({
        deleted: ['same'],
        failures: [{ key: 'other', outcome: 'changed' }],
      });
      expect(await bucket.keys()).toEqual(['other']);
    });
  });
}

onBothServers(contract);
