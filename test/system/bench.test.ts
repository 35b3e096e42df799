import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { Report } from '../rigs/bench/report.ts';

const run = promisify(execFile);
const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const COMPILER = join(PROJECT, 'node_modules/.bin/tsc');

describe.skipIf(inject('postgres').kind === 'missing')('the benchmark', () => {
  let folder = '';
  let main = '';

  beforeAll(async () => {
    // Inside the project, where what it imports is found; not where `npm run bench` compiles to.
    folder = await mkdtemp(join(tmpdir(), 'retention-bench-test-'));
    const build = join(PROJECT, '.scratch/bench/test-build');
    await run(COMPILER, ['-p', 'test/rigs/bench', '--outDir', build], { cwd: PROJECT });
    main = join(build, 'test/rigs/bench/main.js');
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    await rm(join(PROJECT, '.scratch/bench/test-build'), { recursive: true, force: true });
  });

  test('prints one table and writes one JSON file', async () => {
    const out = join(folder, 'figures.json');
    const only = ['--only', 'cost,drain,flag-growth', '--runs', '1', '--scale', '0.002'];
    const { stdout } = await run(process.execPath, [main, ...only, '--out', out]);

    const report = JSON.parse(readFileSync(out, 'utf8')) as Report;
    expect(report).toMatchObject({ node: process.version, runs: 1, scale: 0.002 });
    expect(report.measured_at).toMatch(/^\d{4}-\d\d-\d\dT/u);
    expect(report.machine.cpu).not.toBe('');
    expect(report.machine.cores).toBeGreaterThan(0);
    expect(report.postgres.major).toBeGreaterThan(0);
    expect(report.postgres.settings).toMatchObject({ shared_buffers: '512MB', fsync: 'on' });
    expect(report.postgres.huge_pages).toBe(false);
    expect(report.table).toEqual({ payload_bytes: 200, tenants: 50 });
    expect(stdout).toContain('fsync = on');
    expect(report.figures.map(({ name }) => name)).toEqual([
      'cost-cpu',
      'cost-wal',
      'kept',
      'drain-to-floor',
      'drain-to-floor-warm',
      'drain-to-loop',
      'flag-table',
      'flag-backlog',
      'flag-policies',
    ]);
    for (const figure of report.figures) {
      expect(figure.unit).toBe(figure.name === 'kept' ? 'bytes' : '×');
      expect(figure.samples).toHaveLength(figure.name === 'drain-to-floor' ? 3 : 1);
      expect(figure.samples).toContain(figure.median);
      const isToReach = figure.name !== 'drain-to-floor-warm';
      expect(figure.target ?? '').toMatch(isToReach ? /^at (?:least|most) [\d.]+$/u : /^$/u);
      expect(typeof figure.met).toBe(isToReach ? 'boolean' : 'object');
      expect(figure.median).toBeGreaterThan(0);
      expect(stdout).toContain(`| ${figure.title} `);
    }
  });

  test('says which scenarios there are when it is asked for another', async () => {
    await expect(run(process.execPath, [main, '--only', 'nothing'])).rejects.toThrow(
      /there is no nothing; there are start, cost, drain, /u,
    );
  });
});
