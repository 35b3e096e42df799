import { expect, test } from 'vitest';
import { parsePointInTime } from '../../src/point-in-time.ts';

test.each([
  ['2026-04-01', '2026-04-01T00:00:00Z'],
  ['2026-04-01T09:30Z', '2026-04-01T09:30:00Z'],
  ['2026-04-01 09:30', '2026-04-01T09:30:00Z'],
  [' 2026-04-01T09:30:15.123456z ', '2026-04-01T09:30:15.123456Z'],
  ['2026-04-01T09:30+09', '2026-04-01T09:30:00+09:00'],
  ['2026-04-01T09:30:01-0330', '2026-04-01T09:30:01-03:30'],
  ['2024-02-29', '2024-02-29T00:00:00Z'],
])('%j is a point in time', (text, read) => {
  expect(parsePointInTime(text, '--at')).toBe(read);
});

test.each([
  '',
  'now',
  'yesterday',
  '2026-4-1',
  '2026-13-01',
  '2026-02-30',
  '2025-02-29',
  '2026-04-01T24:00',
  '2026-04-01T09:60',
  '2026-04-01T09',
  '01.04.2026',
  '2026-04-01T09:30+99:00',
  '1775000000',
  'infinity',
])('%j is none, and it says what was expected', (text) => {
  expect(() => parsePointInTime(text, '--at')).toThrow(
    `--at: expected a point in time such as 2026-04-01 or 2026-04-01T09:30Z; given "${text}"`,
  );
});
