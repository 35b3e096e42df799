import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runMigrations } from '../../src/database/migrations.ts';
import { silentLogger } from '../../src/logger.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { type RunningCli, startCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { ROOT } from '../support/project-files.ts';
import { until } from '../support/until.ts';

describeDatabase('a listener of another release', () => {
  const stack = useCliStack();
  let folder = '';

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'retention-releases-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** A build of this product that says that it is another release of it. */
  function buildOf(version: string): string {
    const build = join(folder, version);
    for (const part of ['dist', 'migrations']) {
      cpSync(join(ROOT, part), join(build, part), { recursive: true });
    }
    symlinkSync(join(ROOT, 'node_modules'), join(build, 'node_modules'));
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as object;
    writeFileSync(join(build, 'package.json'), JSON.stringify({ ...manifest, version }));
    return join(build, 'dist/cli/main.js');
  }

  const listenAs = (version: string): RunningCli =>
    startCli(['listen'], { env: stack.env(), main: buildOf(version) });

  test.each([
    ['0.0.9', /serves clients from 0\.1\.0 on.*bring this listener up to date/u],
    ['0.2.0', /the schema is still 0\.1\.0.*retention migrate up/u],
  ])(
    '%s works on nothing, says which side to bring up to date, and looks again',
    async (version, said) => {
      await stack.insertResults({ count: 5 });
      await using listener = listenAs(version);
      await listener.waitForLine(said, 20_000);
      expect(await stack.countCleared()).toBe(0);
      expect(stack.requests()).toEqual([]);
      expect(await stack.database().query('select from retention.flagged')).toEqual([]);
      await using fitting = await stack.listen();
      await stack.cleared(5);
      expect(fitting.stderr).not.toMatch(said);
      listener.kill();
      expect(await listener.ended()).toMatchObject({ code: 0 });
    },
  );

  test('goes on while the schema is installed under it again and again, and loses nothing', async () => {
    const { query, url } = stack.database();
    await stack.database().set({ batch_size: '10' });
    await stack.insertResults({ count: 2_000 });
    await using listener = listenAs('0.1.9');
    const install = async (): Promise<readonly string[]> => {
      await query(`create or replace function retention.version()
        returns table (version text, oldest_client text) language sql immutable
        as $$ select '0.1.0', '0.1.0' $$`);
      return runMigrations({
        databaseUrl: url,
        direction: 'up',
        settings: { scheduler: 'internal' },
        logger: silentLogger,
      });
    };
    await until('the first are cleared', async () => (await stack.countCleared()) > 0, {
      limitMs: 20_000,
      seen: () => listener.stderr,
    });
    const installed = new AbortController();
    const read = async (): Promise<void> => {
      while (!installed.signal.aborted) await query('select flagged from retention.status');
    };
    const reading = read();
    for (let time = 0; time < 5; time += 1) {
      expect(await install()).toEqual(['0003_functions']);
    }
    installed.abort();
    await reading;
    await stack.cleared(2_000, 60_000);
    expect(await query('select from retention.flagged')).toEqual([]);
    expect(await query('select sum(cleared)::int as cleared from retention.batch')).toEqual([
      { cleared: 2_000 },
    ]);
  });
});
