import { expect, test } from 'vitest';
import { type AdoptionProposal, proposeAdoption, readConfig } from '../../src/index.ts';
import { describeDatabase, useDatabase } from '../support/database.ts';
import { hasSchema, migrate } from '../support/migrating.ts';
import { dumpSchema } from '../support/schema-dump.ts';

/** A job table of another application, with 40 days old results and a word of its own for completed. */
const JOBS = `
create schema jobs;
create table jobs.job (
  job_id bigint primary key,
  parent_id bigint,
  org_id text not null,
  state text not null,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  result_bucket text,
  result_path text,
  api_key text default 'sk_live_4eC39HqLyjWDarjtT1zdp7dc',
  modified timestamptz
);
insert into jobs.job (job_id, org_id, state, finished_at, result_bucket, result_path)
select n, 'acme', case n when 1 then 'failed' else 'done' end, now() - interval '40 days', 'dpp-results', 'results/' || n
from generate_series(1, 5) n`;

/** Like them, and each odd in its own way. */
const OTHERS = `
create schema "Odd Schema";
create table "Odd Schema"."Run-Results" (
  "runId" uuid primary key default gen_random_uuid(), "tenantId" text, status text, "completedAt" timestamptz,
  bucket text, "s3Key" text
);
create table parts (
  run_id bigint, tenant_id text, status text, completed_at date, result_s3_bucket text, result_s3_key text,
  updated_at timestamptz, primary key (run_id, completed_at)
) partition by range (completed_at);
create table parts_1 partition of parts for values from ('2026-01-01') to ('2027-01-01');
insert into parts values (1, 'a', 'COMPLETED', '2026-01-02', 'b', 'k', now()), (2, 'a', 'COMPLETED', '2026-01-03', 'b', 'k', now());
create view runs_view as select * from runs;
create table notes (id bigint primary key, text text);
create table several (
  id uuid primary key, state text, finished_at timestamptz, ended_at timestamptz, bucket text, key text
);
insert into several values (gen_random_uuid(), 'success', now(), now(), 'b', 'https://u:hunter2@h/k?X-Amz-Signature=abcdef'),
  (gen_random_uuid(), 'finished', now(), now(), 'b', 'eyJhbGciOiJIUzI1NiJ9.payload.signature');
create table epoch (id uuid primary key, status text, completed_at bigint, bucket text, key text);
create table floats (id double precision primary key, status text, completed_at timestamptz, bucket text, key text);
create type phase as enum ('WAITING', 'RUNNING', 'SUCCEEDED');
create table enums (id uuid primary key, status phase, completed_at timestamptz, s3_bucket text, s3_key text);
create table triggered (like runs including all);
create table audit (n serial, at timestamptz);
insert into triggered (tenant_id, status, completed_at, result_s3_bucket, result_s3_key) values ('a', 'COMPLETED', now() - interval '1 year', 'b', 'k');
create function note() returns trigger language plpgsql as 'begin insert into audit (at) values (now()); return null; end';
create trigger note after update on triggered for each row execute function note();
create table guarded (like runs including all, check (result_cleared_at is null));
insert into guarded (tenant_id, status, completed_at, result_s3_bucket, result_s3_key) values ('a', 'COMPLETED', now() - interval '1 year', 'b', 'k');
create role init_stranger login;
create table public.foreign_words (id uuid primary key, status text, completed_at timestamptz, bucket text, key text);
insert into foreign_words values (gen_random_uuid(), 'fertig', now(), 'b', 'k')`;

describeDatabase('retention init', () => {
  const database = useDatabase(async ({ query }) => {
    await query(JOBS);
    await query(OTHERS);
  });

  function init(
    variables: Readonly<Record<string, string>> = {},
    url = database().url,
  ): Promise<AdoptionProposal> {
    const config = readConfig({ DATABASE_URL: url, ...variables }, { command: 'migrate' });
    return proposeAdoption({ config });
  }

  const failed = ({ checks }: AdoptionProposal): string =>
    checks
      .filter(({ state }) => state === 'failed')
      .map(({ name, found, remedy }) => `${name}: ${found}. ${remedy ?? ''}`)
      .join('\n');
  const columnOf = (proposal: AdoptionProposal, name: string) =>
    proposal.columns.find(({ view_column }) => view_column === name);

  test('never writes: a whole dump before and after is the same, and the mapping is tried', async () => {
    const before = await dumpSchema(database().url, { data: true });
    const proposal = await init({ RETENTION_TABLE: 'jobs.job' });
    await init({ RETENTION_TABLE: 'parts' });
    await init({ RETENTION_TABLE: 'triggered' });
    expect(await dumpSchema(database().url, { data: true })).toBe(before);
    expect(await hasSchema(database())).toBe(false);
    expect(proposal.checks).toContainEqual(
      expect.objectContaining({
        name: 'trial: reading',
        found:
          'of the first 5 rows 4 are completed and have a key, 4 of those have their object still, and 4 of those are older than 30 days',
      }),
    );
    expect(proposal.checks).toContainEqual(
      expect.objectContaining({
        name: 'trial: stamping',
        found: 'one row took it; it was rolled back',
      }),
    );
  });

  test('shows the mapping of a table with other names and another word for completed, with samples', async () => {
    const proposal = await init({ RETENTION_TABLE: 'jobs.job' });
    expect(failed(proposal)).toBe('');
    expect(proposal).toMatchObject({ ok: true, table: 'jobs.job', buckets: ['dpp-results'] });
    expect(proposal.mapping).toBe(
      'run_id=job_id,tenant_id=org_id,status=state:done,completed_at=finished_at,bucket=result_bucket,key=result_path,updated_at=modified',
    );
    expect(columnOf(proposal, 'key')).toMatchObject({
      type: 'text',
      samples: ['results/1', 'results/2', 'results/3'],
    });
    expect(columnOf(proposal, 'cleared_at')).toMatchObject({ type: null, note: 'will be added' });
    expect(JSON.stringify(proposal)).not.toContain('sk_live');
  });

  test('what it prints works: the roles, then migrate up with the variables', async () => {
    const proposal = await init({ RETENTION_TABLE: 'jobs.job', RETENTION_SCHEDULER: 'internal' });
    const { env, grants, commands, iam } = proposal;
    expect(commands[0]).toBe('npx retention migrate up');
    expect(iam).toMatchObject({
      Statement: [{ Action: 's3:DeleteObject', Resource: 'arn:aws:s3:::dpp-results/*' }],
    });
    expect(grants).toHaveLength(4);
    await database().query(`begin; ${grants.join('\n')} rollback`);
    const { table, columns, resultBuckets, role } = readConfig(env);
    expect({ table, resultBuckets, role }).toEqual({
      table: { schema: 'jobs', name: 'job' },
      resultBuckets: ['dpp-results'],
      role: 'retention_listener',
    });
    await migrate(database(), 'up', { settings: { table: 'jobs.job', columns } });
    const [row] = await database().query('select count(*)::int as live from retention._live');
    expect(row).toEqual({ live: 5 });
    await migrate(database(), 'down');
    await database().query('alter table jobs.job drop column result_cleared_at');
  });

  test('a password is nowhere in what it prints; a place to fill it in is', async () => {
    const secret = database().url.replace('postgres@', 'postgres:hunter2@');
    const proposal = await init({ RETENTION_TABLE: 'several' }, `${secret}?password=hunter2`);
    expect(JSON.stringify(proposal)).not.toContain('hunter2');
    expect(proposal.env['DATABASE_URL']).toContain('//retention_listener:PASSWORD@');
    expect(proposal.env['DATABASE_MIGRATE_URL']).toContain('//postgres:PASSWORD@');
    // Neither is a signature, nor a token, that rows hold.
    expect(JSON.stringify(proposal)).not.toMatch(/abcdef|eyJ/u);
  });

  test.each([
    [
      'a table that is not there',
      { RETENTION_TABLE: 'no.such' },
      /table "no"\."such" was not found/u,
    ],
    ['a view', { RETENTION_TABLE: 'runs_view' }, /runs_view is not a table but a view/u],
    [
      'a partition',
      { RETENTION_TABLE: 'parts_1' },
      /is a part of (public\.)?parts.*RETENTION_TABLE=/u,
    ],
    [
      'no column that looks right',
      { RETENTION_TABLE: 'notes' },
      /column completed_at: no column looks right\. Say which: --columns completed_at=its_column\ncolumn key: no column looks right/u,
    ],
    [
      'several that do',
      { RETENTION_TABLE: 'several' },
      /column status: several words of column state may mean completed: finished, success.*--columns status=state:done\ncolumn completed_at: several columns look right: finished_at, ended_at/u,
    ],
    [
      'a time that is no timestamp',
      { RETENTION_TABLE: 'epoch' },
      /column completed_at: no column fits; column completed_at is of type bigint, a timestamp is needed/u,
    ],
    [
      'an id of a type that cannot be told apart',
      { RETENTION_TABLE: 'floats' },
      /column run_id: no column fits; column id is of type double precision, of which one value may be written in several ways/u,
    ],
    [
      'words that no one can read as completed',
      { RETENTION_TABLE: 'foreign_words' },
      /column status: no word of column status reads like completed; there are: fertig\./u,
    ],
    [
      'a constraint that refuses the stamp',
      { RETENTION_TABLE: 'guarded' },
      /trial: stamping: a row refuses it: .*guarded_result_cleared_at_check/u,
    ],
    [
      'a mapping that names a column that is not there',
      { RETENTION_TABLE: 'jobs.job', RETENTION_COLUMNS: 'key=nothing' },
      /key: looked for column nothing/u,
    ],
  ])('%s has its sentence', async (_, variables, said) => {
    const proposal = await init(variables);
    expect(failed(proposal)).toMatch(said);
    expect(proposal.ok).toBe(false);
  });

  test('a table that is not there: names those that look right', async () => {
    const { tables } = await init({ RETENTION_TABLE: 'no.such' });
    expect(tables.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['jobs.job', 'public.runs', 'public.parts', 'public.enums']),
    );
    expect(tables.map(({ name }) => name)).not.toContain('public.parts_1');
    expect(tables.map(({ name }) => name)).not.toContain('public.notes');
  });

  test('what a person says settles what several columns fit', async () => {
    const proposal = await init({
      RETENTION_TABLE: 'several',
      RETENTION_COLUMNS: 'completed_at=ended_at,status=state:success',
    });
    expect(failed(proposal)).toBe('');
    expect(proposal.mapping).toBe(
      'run_id=id,tenant_id=,status=state:success,completed_at=ended_at,bucket=bucket,key=key,updated_at=',
    );
  });

  test('quoted names, partitioned tables, enums and triggers', async () => {
    const odd = await init({ RETENTION_TABLE: '"Odd Schema"."Run-Results"' });
    expect(odd).toMatchObject({
      ok: true,
      table: '"Odd Schema"."Run-Results"',
      mapping:
        'run_id="runId",tenant_id="tenantId",completed_at="completedAt",bucket=bucket,key="s3Key",updated_at=',
    });
    expect(readConfig(odd.env).table).toEqual({ schema: 'Odd Schema', name: 'Run-Results' });
    expect(await init({ RETENTION_TABLE: 'parts' })).toMatchObject({ ok: true, mapping: '' });
    const enums = await init({ RETENTION_TABLE: 'enums' });
    expect(enums.mapping).toContain('status=status:SUCCEEDED');
    const { checks } = await init({ RETENTION_TABLE: 'triggered' });
    expect(checks.find(({ name }) => name === 'trial: stamping')?.found).toMatch(
      /^not tried here/u,
    );
  });

  test('rows in a bucket that S3_RESULT_BUCKET does not list are named', async () => {
    const { checks, env } = await init({ RETENTION_TABLE: 'jobs.job', S3_RESULT_BUCKET: 'other' });
    expect(checks).toContainEqual(
      expect.objectContaining({
        name: 'buckets',
        state: 'warning',
        found: 'rows name buckets that S3_RESULT_BUCKET does not list: dpp-results',
      }),
    );
    expect(env['S3_RESULT_BUCKET']).toBe('other');
  });

  test('a role that may not even look, and a session that takes no writes', async () => {
    const { name, query, urlAs } = database();
    const stranger = await init({ RETENTION_TABLE: 'jobs.job' }, urlAs('init_stranger'));
    expect(failed(stranger)).toMatch(
      /schema: role init_stranger may not create the schema retention.*grant create on database/u,
    );
    await query(`revoke temporary on database ${name} from public`);
    expect(failed(await init({}, urlAs('init_stranger')))).toContain(
      `grant temporary on database "${name}" to "init_stranger";`,
    );
    await query(`alter role init_stranger set default_transaction_read_only = on`);
    expect(failed(await init({}, urlAs('init_stranger')))).toMatch(/takes no writes|temporary/u);
  });
});
