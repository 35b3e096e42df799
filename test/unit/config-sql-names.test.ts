import { describe, expect, test } from 'vitest';
import { formatTable, roleName, tableName } from '../../src/config/sql-names.ts';

const parseTable = (text: string) => tableName().schema.parse(text);
const parseRole = (text: string) => roleName().schema.parse(text);

describe('tables', () => {
  test.each([
    ['public.runs', 'public', 'runs'],
    ['runs', undefined, 'runs'],
    ['App.Runs', 'app', 'runs'],
    ['"App"."My Runs"', 'App', 'My Runs'],
    ['app."a.b"', 'app', 'a.b'],
    ['"say ""hi"""', undefined, 'say "hi"'],
    ['ünïcödé.실행', 'ünïcödé', '실행'],
    ['a . b', 'a', 'b'],
  ])('reads %s', (text, schema, name) => {
    expect(parseTable(text)).toEqual({ schema, name });
  });

  test.each([
    '',
    '.',
    'a.',
    '.b',
    'a.b.c',
    'my-table',
    '1st',
    'a b',
    '"open',
    '""',
    'a;drop table b',
  ])('refuses %s', (text) => {
    expect(tableName().schema.safeParse(text).success).toBe(false);
  });

  test.each(['public.runs', '"App"."My ""Runs"""', 'runs'])(
    'writes %s so that it reads back',
    (text) => {
      expect(parseTable(formatTable(parseTable(text)))).toEqual(parseTable(text));
    },
  );
});

test('a name that Postgres would cut is refused', () => {
  expect(parseRole('x'.repeat(63))).toHaveLength(63);
  for (const text of ['x'.repeat(64), 'ü'.repeat(32)]) {
    const [issue] = roleName().schema.safeParse(text).error?.issues ?? [];
    expect(issue).toMatchObject({ params: { expected: 'an SQL name of at most 63 bytes' } });
  }
});
