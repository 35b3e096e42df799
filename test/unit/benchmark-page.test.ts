import { expect, test } from 'vitest';
import { replaceFigures } from '../rigs/bench/page.ts';
import type { Report } from '../rigs/bench/report.ts';
import { read } from '../support/project-files.ts';

const REPORT: Report = {
  measured_at: '2026-11-28T12:00:00.000Z',
  machine: { cpu: 'a processor', cores: 2, gigabytes: 24 },
  node: 'v20.20.2',
  postgres: { major: 15, settings: {}, huge_pages: false },
  table: { payload_bytes: 200, tenants: 50 },
  runs: 5,
  scale: 1,
  seconds: 2_700,
  figures: [
    {
      name: 'drain',
      title: 'drain / floor',
      unit: '×',
      target: 'at least 0.75',
      met: false,
      median: 0.745,
      min: 0.7,
      max: 112.4,
      samples: [0.7, 0.8],
      detail: null,
    },
  ],
};

test('the figures of a run take the place of those on the benchmark page, and nothing else changes', () => {
  const page = read('docs/benchmark.md');
  const written = replaceFigures(page, REPORT);
  expect(written).toContain(
    '| drain / floor | 0.74 × | 0.70–112 | at least 0.75 (missed) |\n<!-- /',
  );
  expect(written).not.toContain('idle: statements per minute');
  const around = (text: string): string[] => text.split(/<!-- bench -->[\s\S]*<!-- \/bench -->/u);
  expect(around(written)).toEqual(around(page));
  expect(around(page)).toHaveLength(2);
  expect(() => replaceFigures('another page', REPORT)).toThrow('lacks <!-- bench -->');
});
