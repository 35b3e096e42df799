import { afterAll, beforeAll, expect, test } from 'vitest';
import { type TestDatabase, createDatabase, describeDatabase } from '../support/database.ts';
import { examineWith } from '../support/doctor.ts';
import { migrateUp } from '../support/migrated.ts';

// Roles belong to the whole server, and test files share it.
const role = (name: string): string => `${name}_roles_${process.pid}`;
const LISTENER = role('listener');
const OPERATOR = role('operator');
const OBSERVER = role('observer');
const READER = role('reader');
const ROLES = [LISTENER, OPERATOR, OBSERVER, READER];

describeDatabase('roles: listener, operator and observer beside the owner', () => {
  let database: TestDatabase;
  const may = async (name: string, call: string): Promise<boolean> => {
    const [row] = await database.query<{ may: boolean }>(
      `select has_function_privilege($1, 'retention.' || $2, 'execute') as may`,
      [name, call],
    );
    return row?.may ?? false;
  };
  const HOLD = 'place_hold(text, text, text, interval, text)';

  beforeAll(async () => {
    database = await createDatabase();
    for (const name of ROLES) await database.query(`create role ${name} login`);
    await migrateUp(database.url, {
      role: LISTENER,
      operatorRole: OPERATOR,
      observerRole: OBSERVER,
    });
  });
  afterAll(async () => {
    for (const name of ROLES) {
      await database?.query(`drop owned by ${name} cascade; drop role ${name}`);
    }
    await database?.drop();
  });

  test('the variables name them, and doctor says who may what', async () => {
    expect(
      await database.query('select role, may, lacks, exceeds from retention.list_roles()'),
    ).toEqual([
      expect.objectContaining({ may: 'owner' }),
      { role: OPERATOR, may: 'operator', lacks: [], exceeds: [] },
      { role: LISTENER, may: 'listener', lacks: [], exceeds: [] },
      { role: OBSERVER, may: 'observer', lacks: [], exceeds: [] },
    ]);
    expect(
      await Promise.all([OPERATOR, LISTENER, OBSERVER].map((name) => may(name, HOLD))),
    ).toEqual([true, false, false]);
    const { check } = await examineWith({ DATABASE_URL: database.url });
    expect(check('roles')).toMatchObject({ state: 'ok' });
    expect(check('roles').found).toContain(`operator ${OPERATOR}, listener ${LISTENER}`);
  });

  test('a migration that names none of them keeps them', async () => {
    await database.query(`revoke all on all functions in schema retention from ${OPERATOR}`);
    await migrateUp(database.url, {});
    expect(await may(OPERATOR, HOLD)).toBe(true);
    expect(await may(OBSERVER, HOLD)).toBe(false);
  });

  test('another variable is a difference that the next migration removes', async () => {
    await migrateUp(database.url, { observerRole: READER });
    expect(await database.query('select observer_role from retention.adapter')).toEqual([
      { observer_role: READER },
    ]);
    await database.query(
      `select retention.revoke_rights('${READER}'); select retention.grant_rights('${OBSERVER}', 'observer')`,
    );
    expect(await may(READER, 'explain(text)')).toBe(false);
  });

  test('a variable that names no role stops the migration before anything is done', async () => {
    for (const [settings, variable] of [
      [{ operatorRole: 'nobody_of_that_name' }, 'RETENTION_OPERATOR_ROLE'],
      [{ observerRole: 'nobody_of_that_name' }, 'RETENTION_OBSERVER_ROLE'],
    ] as const) {
      await expect(migrateUp(database.url, settings)).rejects.toThrow(
        `${variable} names the role nobody_of_that_name, which does not exist`,
      );
    }
    expect(await database.query('select operator_role from retention.adapter')).toEqual([
      { operator_role: OPERATOR },
    ]);
  });

  test('one role named twice has the rights of both', async () => {
    await database.query(
      `update retention.adapter set observer_role = operator_role; select retention._grant_rights()`,
    );
    expect(await may(OPERATOR, HOLD)).toBe(true);
    await database.query(`select retention.grant_rights('${OBSERVER}', 'observer')`);
    expect(await may(OPERATOR, HOLD)).toBe(true);
  });

  test('an operator who becomes an observer loses what operators may', async () => {
    await database.query(`select retention.grant_rights('${OPERATOR}', 'observer')`);
    expect(await may(OPERATOR, HOLD)).toBe(false);
    expect(await may(OPERATOR, 'explain(text)')).toBe(true);
    await database.query(
      `select retention.grant_rights('${OBSERVER}', 'observer'), retention.grant_rights('${OPERATOR}', 'operator')`,
    );
  });

  test('a listener that is a member of the operators is named by doctor', async () => {
    await database.query(`grant ${OPERATOR} to ${LISTENER}`);
    try {
      const { check } = await examineWith({ DATABASE_URL: database.url });
      expect(check('roles')).toMatchObject({ state: 'warning' });
      expect(check('roles').found).toContain(`listener ${LISTENER} may also what is not for it`);
    } finally {
      await database.query(`revoke ${OPERATOR} from ${LISTENER}`);
    }
  });

  test('a right that somebody granted beyond its work goes with the next migration', async () => {
    await database.query(
      `grant update on retention.result to ${OBSERVER}; grant insert on retention.hold to ${LISTENER};
      grant usage on all sequences in schema retention to ${LISTENER};
      grant create on schema retention to ${LISTENER}`,
    );
    await database.query('select retention._grant_rights()');
    expect(
      await database.query(
        `select has_table_privilege('${OBSERVER}', 'retention.result', 'update') as updates,
          has_table_privilege('${LISTENER}', 'retention.hold', 'insert') as inserts,
          has_sequence_privilege('${LISTENER}', 'retention.hold_hold_id_seq', 'usage') as counts,
          has_schema_privilege('${LISTENER}', 'retention', 'create') as creates`,
      ),
    ).toEqual([{ updates: false, inserts: false, counts: false, creates: false }]);
  });

  test('a kind that is none and a role that is none are refused with what is expected', async () => {
    await expect(
      database.query(`select retention.grant_rights('${READER}', 'admin')`),
    ).rejects.toThrow('expected listener, operator, observer or reader, given: admin');
    await expect(database.query(`select retention.grant_rights('', 'reader')`)).rejects.toThrow(
      'expected the name of a role, given: ',
    );
    await expect(
      database.query(`select retention.grant_rights('nobody_of_that_name', 'reader')`),
    ).rejects.toMatchObject({ code: '42704' });
  });
});
