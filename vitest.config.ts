import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const postgresSetup = './test/support/postgres-setup.ts';

// These wait for real servers. On a shared machine one may be starved past any bound; what is broken
// fails twice.
const onceMore = process.env['CI'] === 'true' ? 1 : 0;

const source = (path: string): string => fileURLToPath(new URL(`src/${path}`, import.meta.url));

/** The files that take longest begin first, so that no process waits for one of them at the end. */
const LONGEST = ['chaos', 'long-run', 'orphans', 'copies-of-servers', 'holds', 'schema-growth'];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return place === -1 ? LONGEST.length : place;
    };
    // oxlint-disable-next-line unicorn/no-array-sort -- the method of vitest's sequencer, which is no array
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  // What the documents show imports the package by its name.
  resolve: {
    alias: [
      { find: /^retention-reactor$/u, replacement: source('index.ts') },
      { find: 'retention-reactor/payloads', replacement: source('payloads/payloads.ts') },
      {
        find: 'retention-reactor/testing/object-store',
        replacement: source('testing/object-store.ts'),
      },
    ],
  },
  test: {
    sequence: { sequencer: LongestFirst },
    reporters: ['default', './test/support/closing-line-reporter.ts'],
    // Every database test file has its own database, and two processes keep two cores busy. System tests wait for
    // servers half of the time: package.json gives them three.
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 10_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'database',
          retry: onceMore,
          include: ['test/database/**/*.test.ts'],
          globalSetup: postgresSetup,
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'system',
          retry: onceMore,
          include: ['test/system/**/*.test.ts'],
          globalSetup: [postgresSetup, './test/support/real-s3-setup.ts'],
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
      {
        // A campaign of faults and one of slips, each as long as asked for: `npm run test:chaos`.
        extends: true,
        test: {
          name: 'chaos',
          include: ['test/rigs/chaos/**/*.test.ts'],
          testTimeout: 0,
          fileParallelism: false,
        },
      },
      {
        // An hour: `npm run test:long`.
        extends: true,
        test: { name: 'long', include: ['test/rigs/long/**/*.test.ts'], testTimeout: 0 },
      },
      {
        // Every PostgreSQL and Node that is supported: `npm run test:versions`.
        extends: true,
        test: {
          name: 'versions',
          include: ['test/rigs/versions/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        // Promise 13 with a million rows: `npm run test:large`.
        extends: true,
        test: { name: 'large', include: ['test/rigs/large/**/*.test.ts'], testTimeout: 0 },
      },
    ],
  },
});
