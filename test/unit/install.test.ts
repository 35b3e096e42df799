import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const INSTALL = fileURLToPath(new URL('../../.ci/install.mjs', import.meta.url));

const LOCKED = {
  '': { dependencies: { one: '^1.0.0' } },
  'node_modules/one': { version: '1.2.3', integrity: 'sha512-one' },
  'node_modules/for-another-platform': { version: '1.0.0', integrity: 'sha512-x', optional: true },
};
const INSTALLED = { 'node_modules/one': LOCKED['node_modules/one'] };

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'retention-install-'));
  mkdirSync(join(root, 'node_modules/one'), { recursive: true });
  write('package.json', { dependencies: { one: '^1.0.0' } });
  write('package-lock.json', { packages: LOCKED });
  write('node_modules/.package-lock.json', { packages: INSTALLED });
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

function write(file: string, content: unknown): void {
  writeFileSync(join(root, file), JSON.stringify(content));
}

// In a plain node, since that is what runs it on a bare clone.
function whyNotInstalled(): string {
  const program = `
    const { whyNotInstalled } = await import(${JSON.stringify(INSTALL)});
    console.log(whyNotInstalled(${JSON.stringify(root)}) ?? 'installed');
  `;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  return stdout.trim();
}

test('asks for nothing when the modules are those of the lock file', () => {
  expect(whyNotInstalled()).toBe('installed');
});

test('sees a missing folder', () => {
  rmSync(join(root, 'node_modules'), { recursive: true });
  expect(whyNotInstalled()).toBe('node_modules is missing');
});

test('sees another version, and a module whose folder is gone', () => {
  write('node_modules/.package-lock.json', {
    packages: { 'node_modules/one': { version: '1.2.2', integrity: 'sha512-old' } },
  });
  expect(whyNotInstalled()).toBe('node_modules/one is not at 1.2.3');
  write('node_modules/.package-lock.json', { packages: INSTALLED });
  rmSync(join(root, 'node_modules/one'), { recursive: true });
  expect(whyNotInstalled()).toBe('node_modules/one is not at 1.2.3');
});

test('sees a lock file that does not fit package.json', () => {
  write('package.json', { dependencies: { one: '^2.0.0' } });
  expect(whyNotInstalled()).toMatch(/disagree about dependencies/);
});
