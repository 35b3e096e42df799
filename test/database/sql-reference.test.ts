import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeMigrationSql } from '../../src/database/migration-sql.ts';
import { type TestDatabase, createDatabase, describeDatabase } from '../support/database.ts';
import { migrate, withDatabase } from '../support/migrating.ts';
import { migrateUp } from '../support/migrated.ts';
import { ROOT, read } from '../support/project-files.ts';
import {
  type SqlInterface,
  readInterface,
  renderInterface,
  roleOf,
} from '../support/sql-reference.ts';

// Roles belong to the whole server, and test files share it.
const OPERATOR = `documented_${process.pid}`;

describeDatabase('the SQL interface', () => {
  let database: TestDatabase;
  let found: SqlInterface;

  beforeAll(async () => {
    database = await createDatabase();
    await database.query(`create role ${OPERATOR}`);
    await migrateUp(database.url, { operatorRole: OPERATOR });
    found = await readInterface(database);
  });
  afterAll(async () => {
    await database?.query(`drop owned by ${OPERATOR}; drop role ${OPERATOR}`);
    await database?.drop();
  });

  test('is what docs/sql.md says; RETENTION_WRITE_DOCS=1 writes it', () => {
    const text = `${renderInterface(found)}\n`;
    if (process.env['RETENTION_WRITE_DOCS'] === '1') {
      writeFileSync(join(ROOT, 'docs/sql.md'), text);
    }
    expect(read('docs/sql.md')).toBe(text);
  });

  test('has a comment on every function, view and table', () => {
    const all = [...found.functions, ...found.relations];
    expect(all.length).toBeGreaterThan(40);
    expect(all.filter(({ comment }) => comment === null).map(({ name }) => name)).toEqual([]);
  });

  test('says of every function and view which role it is for: "For the listener."', () => {
    const all = [...found.functions, ...found.relations.filter(({ kind }) => kind === 'view')];
    const silent = all.filter(({ comment }) => roleOf(comment) === undefined);
    expect(silent.map(({ name }) => name)).toEqual([]);
  });

  test('lets operators call all but what is for the owner of the schema', async () => {
    const rows = await database.query<{ name: string }>(
      `select p.proname as name from pg_proc p
      where p.pronamespace = 'retention'::regnamespace
        and has_function_privilege($1, p.oid, 'execute')`,
      [OPERATOR],
    );
    const allowed = found.functions.filter(
      ({ comment }) => roleOf(comment) !== 'the owner of the schema',
    );
    expect(rows.map(({ name }) => name).toSorted()).toEqual(
      allowed.map(({ name }) => name).toSorted(),
    );
  });

  test('names every error that a function raises by itself', () => {
    const silent = found.functions.flatMap(({ name, comment, body }) =>
      [...body.matchAll(/errcode = '(?<error>\w+)'/gu)]
        .map((match) => match.groups?.['error'] ?? '')
        .filter((error) => comment?.match(/Raises[\s\S]*/u)?.[0].includes(error) !== true)
        .map((error) => `${name}: ${error}`),
    );
    expect(silent).toEqual([]);
  });

  test('has the same comments where the text of the migrations was run as it is printed', async () => {
    await withDatabase(async (printed) => {
      await printed.query(await writeMigrationSql({ settings: { scheduler: 'internal' } }));
      expect(renderInterface(await readInterface(printed))).toBe(renderInterface(found));
    });
  });

  test('keeps comments that were changed by hand until the next installation', async () => {
    await withDatabase(async (changed) => {
      await migrate(changed, 'up');
      await changed.query(`comment on function retention.tick(text) is 'ours';
        comment on view retention.status is null`);
      expect(await migrate(changed, 'up')).toEqual([]);
      await changed.query('drop function retention.halt(text, text)');
      expect(await migrate(changed, 'up')).not.toEqual([]);
      expect(await migrate(changed, 'up')).toEqual([]);
      expect(renderInterface(await readInterface(changed))).toBe(renderInterface(found));
    });
  });
});
