import { describe, expect, it } from 'vitest';
import { filesBelow, read } from '../support/project-files.ts';

const sources = filesBelow('src').filter((path) => path.endsWith('.ts'));

function thatSay(pattern: RegExp): readonly string[] {
  return sources.filter((path) => pattern.test(read(path)));
}

describe('what the product ships', () => {
  it('installs nothing', () => {
    expect(thatSay(/\bapt(?:-get)?\b|\bdpkg\b|\bsudo\b/u)).toEqual([]);
  });

  it('starts no program', () => {
    expect(thatSay(/node:child_process/u)).toEqual([]);
  });

  it('has no server but the one for health, metrics and the status page', () => {
    expect(thatSay(/\bcreateServer\b/u)).toEqual(['src/telemetry/http-server.ts']);
  });

  it('knows nothing of the tests', () => {
    expect(thatSay(/from '[./]*\/test\//u)).toEqual([]);
  });
});
