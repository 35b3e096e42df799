import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { useBuiltStack } from '../support/built-stack.ts';
import { runCli, startCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

// A tick is at most a minute away, and the rest takes seconds.
const TOUR_LIMIT_MS = 180_000;

/** Processes that were started with this value in their environment, directly or not. */
function processesOf(mark: string): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
      } catch {
        return false;
      }
    });
}

function folderOf(output: string): string {
  const folder = /its data in (\S+)\. /.exec(output)?.[1];
  if (folder === undefined) throw new Error(`no data folder was named in:\n${output}`);
  return folder;
}

async function expectNothingLeft(mark: string, output: string): Promise<void> {
  // A guard ends by itself when it is called off, a moment later.
  await until('no process is left', () => processesOf(mark).length === 0, {
    seen: () => processesOf(mark),
  });
  expect(existsSync(folderOf(output))).toBe(false);
}

describeDatabase('npm run demo', () => {
  const stack = useBuiltStack();
  const demo = (mark: string) => ({ main: stack('main.js'), env: { DEMO_MARK: mark } });

  test(
    'shows the main job, counts it, and leaves nothing running',
    async () => {
      const mark = randomUUID();
      const { code, stdout, stderr } = await runCli([], demo(mark));

      expect(code, `${stdout}\n${stderr}`).toBe(0);
      expect(stderr).toBe('');
      expect(stdout).toContain('Waiting for the real one, at most 60 s');
      expect(stdout).toMatch(
        /psql \| Asynchronous notification "retention_expired" with payload "\{"batches":5,"results":420,/,
      );
      expect(stdout).toMatch(/psql \| Asynchronous notification "retention_cleared"/);
      expect(stdout).toMatch(/s3 \| DeleteObjects demo-results-eu: 100 keys/);
      expect(stdout).toMatch(/psql \|\s+20 \| fresh: not yet due/);
      expect(stdout).toMatch(/retention \| 90 results cleared, 0 spared, 0 failed, 0 dead/);
      expect(stdout).toMatch(/results cleared then, by the listener +420 +420 +ok/);
      expect(stdout).toMatch(/results cleared then, by reconcile +90 +90 +ok/);
      expect(stdout).not.toContain('DIFFERS');
      expect(stdout).toMatch(/All \d+ figures are as expected/);
      // It is no terminal that reads this.
      expect(stdout).not.toContain('\u001B');
      await expectNothingLeft(mark, stdout);
    },
    TOUR_LIMIT_MS,
  );

  test('leaves nothing running after Ctrl-C in the middle', async () => {
    const mark = randomUUID();
    await using tour = startCli([], demo(mark));
    await tour.waitForLine('Listening for notifications', 60_000);
    expect(processesOf(mark).length).toBeGreaterThan(3);
    tour.kill('SIGINT');
    const { code, stdout } = await tour.ended();

    expect(code).toBe(130);
    expect(stdout).toContain('Everything is stopped');
    await expectNothingLeft(mark, stdout);
  });

  test('leaves nothing running when it is killed outright', async () => {
    const mark = randomUUID();
    await using tour = startCli([], demo(mark));
    await tour.waitForLine('Listening for notifications', 60_000);
    tour.kill('SIGKILL');
    const { stdout } = await tour.ended();

    await expectNothingLeft(mark, stdout);
  });
});
