import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const FUNCTIONS = fileURLToPath(new URL('../../migrations/functions', import.meta.url));

/** Joined as sets, by hash: the table is read as a whole there, once. */
const SETS = ['join retention._live o on o.key = k.key collate "C"'];

/** Where live rows are looked up by a key alone: no index has the order of keys, so that each reads the table. */
function lookupsWithoutHash(sql: string): string[] {
  const found: string[] = [];
  for (const look of sql.matchAll(/(?:from|join) retention\._live (\w+)\b/gu)) {
    const [, alias] = look;
    const [condition = ''] = sql.slice(look.index).split(/\n *\)|;\n/u);
    const byKey = new RegExp(String.raw`(?:\b|\()${alias}\.key (?:=|>=|>|<|<=) `, 'u').test(
      condition,
    );
    const byIndex = new RegExp(String.raw`\b${alias}\.(?:key_hash|run_id) = `, 'u').test(condition);
    if (byKey && !byIndex && !SETS.some((set) => condition.startsWith(set))) found.push(condition);
  }
  return found;
}

test('each look-up of live rows by a key names its hash, which the index has', () => {
  const found = readdirSync(FUNCTIONS).flatMap((file) =>
    lookupsWithoutHash(readFileSync(join(FUNCTIONS, file), 'utf8')).map(
      (text) => `${file}: ${text}`,
    ),
  );
  expect(found).toEqual([]);
  const lookup = 'exists (select from retention._live r\n where r.key = k.key\n )';
  expect(lookupsWithoutHash(lookup)).toHaveLength(1);
  expect(lookupsWithoutHash(lookup.replace('r.key =', 'r.key_hash = 1 and r.key ='))).toEqual([]);
});
