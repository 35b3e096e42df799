import { describe, expect, test } from 'vitest';
import { describeNotification } from '../../src/cli/notification-line.ts';

const line = (channel: string, payload: unknown): string => {
  const { word, text } = describeNotification(channel, payload, JSON.stringify(payload));
  return `${word} ${text}`;
};

describe('a notification in words', () => {
  test.each([
    ['2026-01-17T01:02:03.000Z', 'oldest 2026-01-17'],
    ['0044-03-15T12:00:00.000Z BC', 'oldest 0044-03-15 BC'],
    ['12026-03-15T12:00:00.000Z', 'oldest 12026-03-15'],
    ['-infinity', 'oldest -infinity'],
    ['infinity', 'oldest infinity'],
  ])('dates from %s', (oldest, said) => {
    const payload = { batches: 1, results: 1, buckets: ['b'], oldest };
    expect(line('retention_expired', payload)).toBe(`flagged 1 result in 1 batch (b), ${said}`);
  });

  test('counts one in the singular and more with separators', () => {
    const payload = { batch: 7, bucket: 'b', cleared: 1, spared: 0, failed: 0, ms: 5 };
    expect(line('retention_cleared', payload)).toBe('cleared 1 result (b) in 5 ms');
    expect(line('retention_cleared', { ...payload, cleared: 1_250, failed: 2 })).toBe(
      'cleared 1,250 results (b) in 5 ms, 2 failed',
    );
  });

  test('says the code of a failure once, and what comes next', () => {
    const failed = { batch: 7, bucket: 'b', code: 'AccessDenied', results: 3, run_ids: ['r1'] };
    expect(line('retention_failed', failed)).toBe(
      'failed 3 results (b): AccessDenied, among them r1; dead, until: retention retry --all',
    );
  });

  test.each([
    ['no date', 'yesterday'],
    ['a date with more behind it', '2026-01-17T01:02:03.000Z; drop'],
    ['control characters', '2026-01-17T01:02:03.000Z\u001B[2J'],
  ])('what the schema did not send is shown as that: %s', (_, oldest) => {
    const payload = { batches: 1, results: 1, buckets: ['b'], oldest };
    const said = line('retention_expired', payload);
    expect(said).toContain('not from the schema');
    expect(said).not.toContain('\u001B');
  });
});
