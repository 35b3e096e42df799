import { afterEach, describe, expect, test, vi } from 'vitest';
import { openTable, printTable } from '../../src/cli/output.ts';
import { describeProgress } from '../../src/cli/progress-words.ts';
import { canRedraw, cutLine, wrapText } from '../../src/cli/terminal.ts';

describe('a table', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  /** What is printed where a line has so many columns; undefined: a pipe. */
  function printed(columns: number | undefined, print: () => void): string {
    let text = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
      text += String(chunk);
      return true;
    });
    vi.stubEnv('COLUMNS', columns === undefined ? undefined : String(columns));
    print();
    vi.restoreAllMocks();
    return text;
  }

  const HEAD = ['hold', 'on', 'reason', 'ends'];
  const ROWS = [
    [12, 'tenant globex', `legal hold ${'2026 '.repeat(20).trim()}`, null],
    [1_234, 'run 5d8f3b1c-90c4-4f1c-8a8e-4a3f5f7f6a20', 'audit', 'when released'],
  ];

  test('that fits has its columns, and that of a pipe as well, however wide', () => {
    const wide = printed(undefined, () => printTable(HEAD, ROWS));
    expect(wide.split('\n')).toHaveLength(4);
    expect(wide).toMatch(/^ {2} +hold {2}on +reason/u);
    expect(printed(500, () => printTable(HEAD, ROWS))).toBe(wide);
  });

  test('that is wider than the terminal has a block for each row, and no line past 80', () => {
    const text = printed(80, () => printTable(HEAD, ROWS));
    expect(text.split('\n').every((line) => line.length <= 80)).toBe(true);
    expect(text).toBe(
      `  hold    12
  on      tenant globex
  reason  legal hold 2026 2026 2026 2026 2026 2026 2026 2026 2026 2026 2026 2026
          2026 2026 2026 2026 2026 2026 2026 2026

  hold    1,234
  on      run 5d8f3b1c-90c4-4f1c-8a8e-4a3f5f7f6a20
  reason  audit
  ends    when released
`,
    );
  });

  test('whose rows come in parts stays as its first part began', () => {
    const text = printed(80, () => {
      const print = openTable(['run', 'key']);
      print([['1', 'x'.repeat(90)]]);
      print([['2', 'short']]);
    });
    // A word that is longer than the line stays whole, so that it can be copied.
    expect(text).toBe(`  run  1\n  key  ${'x'.repeat(90)}\n\n  run  2\n  key  short\n`);
  });
});

describe('a line', () => {
  test('is broken at its blanks, or cut with a sign', () => {
    expect(wrapText('one two three', 7)).toEqual(['one two', 'three']);
    expect(wrapText('', 7)).toEqual(['']);
    expect(cutLine('12345678', 8)).toBe('12345678');
    expect(cutLine('123456789', 8)).toBe('12345...');
  });
});

describe('progress', () => {
  test.each([
    [{ done: 0, known: 10, milliseconds: 100 }, {}, '0 of 10 results done'],
    [{ done: 1, known: 1, milliseconds: 100 }, {}, '1 of 1 result done'],
    [
      { done: 2_000, known: 10_000, milliseconds: 8_000 },
      {},
      '2,000 of 10,000 results done in 8 s, about 32 s to go',
    ],
    [{ done: 10, known: 10, milliseconds: 8_000 }, {}, '10 of 10 results done in 8 s'],
    [
      { done: 1_000, known: 61_000, milliseconds: 2_000 },
      { one: 'object', verb: 'listed', isEstimate: true },
      '1,000 of about 61,000 objects listed in 2 s, about 2 min to go',
    ],
    [
      { done: 1_000, known: 0, milliseconds: 2_000 },
      { one: 'object', verb: 'listed', isEstimate: true },
      '1,000 objects listed in 2 s',
    ],
  ])('says %j of %j: %s', (at, counted, said) => {
    expect(describeProgress(at, counted)).toBe(said);
  });
});

describe('drawing over what was written', () => {
  test.each([
    [{ TERM: 'xterm', CI: undefined }, true],
    [{ TERM: 'xterm', CI: 'false' }, true],
    [{ TERM: 'xterm', CI: 'true' }, false],
    [{ TERM: 'xterm', CI: '1' }, false],
    [{ TERM: 'dumb', CI: undefined }, false],
  ])('on a terminal with %j: %s', (env, can) => {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    expect(canRedraw({ isTTY: true })).toBe(can);
    expect(canRedraw({ isTTY: false })).toBe(false);
    vi.unstubAllEnvs();
  });
});
