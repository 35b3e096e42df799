import { describe, expect, test } from 'vitest';
import {
  RUNBOOK_COLUMNS,
  formatTable,
  parseColumns,
  parseIdentifier,
  parseTable,
} from '../../src/config-columns.ts';

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
    expect(() => parseTable(text)).toThrow();
  });

  test.each(['public.runs', '"App"."My ""Runs"""', 'runs'])(
    'writes %s so that it reads back',
    (text) => {
      expect(parseTable(formatTable(parseTable(text)))).toEqual(parseTable(text));
    },
  );

  test('a name that Postgres would cut is refused', () => {
    expect(parseIdentifier('x'.repeat(63))).toHaveLength(63);
    expect(() => parseIdentifier('x'.repeat(64))).toThrow('at most 63 bytes');
    expect(() => parseIdentifier('ü'.repeat(32))).toThrow('at most 63 bytes');
  });
});

describe('columns', () => {
  test("without any, every column has the runbook's name", () => {
    expect(parseColumns('')).toEqual({ text: '', sources: RUNBOOK_COLUMNS, named: [] });
  });

  test('those that are named change, the others stay', () => {
    const mapping = parseColumns(
      'bucket=result_bucket, key = Result_Key ,retain_until="Odd, ""name""",updated_at=,status=',
    );
    expect(mapping.sources).toEqual({
      ...RUNBOOK_COLUMNS,
      bucket: { kind: 'column', name: 'result_bucket' },
      key: { kind: 'column', name: 'result_key' },
      retain_until: { kind: 'column', name: 'Odd, "name"' },
      updated_at: { kind: 'absent' },
      status: { kind: 'absent' },
    });
    expect(mapping.named).toEqual(['bucket', 'key', 'retain_until', 'updated_at', 'status']);
  });

  test('a bucket may be a constant or be missing', () => {
    expect(parseColumns("bucket='dpp-results'").sources.bucket).toEqual({
      kind: 'constant',
      value: 'dpp-results',
    });
    expect(parseColumns('bucket=').sources.bucket).toEqual({ kind: 'absent' });
  });

  test('one column may be tenant and bucket at once', () => {
    expect(parseColumns('bucket=tenant_id').sources.bucket).toEqual({
      kind: 'column',
      name: 'tenant_id',
    });
  });

  test.each([
    ['key', 'view_column=table_column'],
    ['key=a=b', 'an SQL name'],
    ['key=a b', 'an SQL name'],
    ['nonsense=a', 'one of run_id, tenant_id'],
    ['key=a,key=b', 'key to be named once'],
    ['key=a,,bucket=b', 'view_column=table_column'],
    ['run_id=', 'a column for run_id'],
    ['completed_at=', 'a column for completed_at'],
    ['key=', 'a column for key'],
    ['cleared_at=', 'a column for cleared_at'],
    ["key='constant'", 'a column for key'],
    ["bucket='no such/bucket'", "a bucket's name"],
    ["bucket='open", 'view_column=table_column'],
    ['bucket="open', 'view_column=table_column'],
    ['cleared_at=completed_at', 'cleared_at and completed_at to be different columns'],
    ['updated_at=result_cleared_at', 'to be different columns'],
    ['key=a;drop table runs--', 'an SQL name'],
  ])('refuses %s', (text, expected) => {
    expect(() => parseColumns(text)).toThrow(expected);
  });
});
