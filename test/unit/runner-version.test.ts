import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkRunner } from '../../migrations/support/runner-version.ts';

function runnerOf(manifest: object): string {
  const folder = mkdtempSync(join(tmpdir(), 'retention-runner-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  const script = join(folder, 'bin/node-pg-migrate.js');
  writeFileSync(script, '');
  return script;
}

test('an older node-pg-migrate is told which version the migrations need', () => {
  const older = runnerOf({ name: 'node-pg-migrate', version: '8.0.4' });
  expect(() => checkRunner(older)).toThrow(
    'these migrations need node-pg-migrate 9 or later, given: 8.0.4. Nothing was done.',
  );
});

test('a newer one, another program and no program at all are not asked', () => {
  expect(() => checkRunner(runnerOf({ name: 'node-pg-migrate', version: '10.1.0' }))).not.toThrow();
  expect(() => checkRunner(runnerOf({ name: 'app', version: '1.0.0' }))).not.toThrow();
  expect(() => checkRunner('/no/such/file.js')).not.toThrow();
});
