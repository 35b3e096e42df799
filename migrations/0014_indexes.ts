import type { MigrationBuilder } from 'node-pg-migrate';
import { outsideTransaction, withLockRetries } from './support/live-table.ts';

interface Leaf {
  readonly schema: string;
  readonly name: string;
  readonly suffix: string;
  readonly partitioned: boolean;
}

interface IndexPlan {
  readonly name: string;
  readonly on: string;
}

/**
 * The two partial indexes over what is not yet cleared: one in the order in which results fall due,
 * one for the check that no other run needs the object. Built concurrently, one table at a time; an
 * index that a lost try left invalid is dropped and built again.
 */
export async function up(pgm: MigrationBuilder): Promise<void> {
  const plans = await planIndexes(pgm);
  const leaves = (await pgm.db.select(
    `select n.nspname as schema, c.relname as name,
      case when t.level = 0 then '' else '_' || c.oid::text end as suffix,
      c.relkind = 'p' as partitioned
    from (
      select a.table_name::regclass as relid, 0 as level from retention.adapter a
      union
      select t.relid, t.level
      from retention.adapter a
      cross join lateral pg_partition_tree(a.table_name::regclass) t
    ) t
    join pg_class c on c.oid = t.relid
    join pg_namespace n on n.oid = c.relnamespace
    order by t.level desc, c.relname`,
  )) as Leaf[];
  await outsideTransaction(pgm, async () => {
    for (const plan of plans) {
      for (const leaf of leaves) {
        if (!leaf.partitioned) await buildConcurrently(pgm, plan, leaf);
      }
      // Deepest first, so that each parent finds its children's indexes to attach.
      for (const leaf of leaves) {
        if (leaf.partitioned) await buildOverPartitions(pgm, plan, leaf);
      }
    }
  });
}

export async function down(pgm: MigrationBuilder): Promise<void> {
  const indexes = (await pgm.db.select(
    `select format('%I.%I', n.nspname, i.relname) as name
    from retention.adapter a
    join pg_index x on x.indrelid = a.table_name::regclass
    join pg_class i on i.oid = x.indexrelid
    join pg_namespace n on n.oid = i.relnamespace
    where i.relname in ('retention_live', 'retention_key')`,
  )) as { readonly name: string }[];
  await outsideTransaction(pgm, async () => {
    for (const index of indexes) await withLockRetries(pgm, `drop index ${index.name}`);
    // A migration further down may fail, and its transaction is not the one that this ended: what is
    // gone must not be written down as there, or the next way up would leave it out.
    await pgm.db.query(
      `do $$
      begin
        if to_regclass('retention.pgmigrations') is not null then
          delete from retention.pgmigrations where name = '0014_indexes';
        end if;
      end
      $$`,
    );
  });
}

async function planIndexes(pgm: MigrationBuilder): Promise<IndexPlan[]> {
  // An index on a column of the view needs the table's own name for it.
  const [names] = (await pgm.db.select(
    `select quote_ident(a.columns -> 'tenant_id' ->> 'name') as tenant_id,
      quote_ident(a.columns -> 'status' ->> 'name') as status,
      retention.instant(a.columns -> 'completed_at') as completed_at,
      format('%I', a.columns -> 'run_id' ->> 'name') as run_id,
      format('%I', a.columns -> 'key' ->> 'name') as key,
      format('%I', a.columns -> 'cleared_at' ->> 'name') as cleared_at,
      a.columns -> 'tenant_id' ->> 'name' is not null as has_tenant,
      a.columns -> 'status' ->> 'name' is not null as has_status
    from retention.adapter a`,
  )) as (Record<string, string> & { has_tenant: boolean; has_status: boolean })[];
  if (names === undefined) throw new Error('retention.adapter is empty: adopt a table first');
  const order = [
    ...(names.has_tenant ? [names['tenant_id']] : []),
    names['completed_at'],
    names['run_id'],
  ];
  const status = names.has_status ? ` and ${names['status']} = 'COMPLETED'` : '';
  return [
    {
      name: 'retention_live',
      on:
        `(${order.join(', ')}) ` +
        `where ${names['cleared_at']} is null${status} and ${names['key']} is not null`,
    },
    {
      name: 'retention_key',
      on: `(${names['key']} collate "C") where ${names['cleared_at']} is null`,
    },
  ];
}

async function buildConcurrently(pgm: MigrationBuilder, plan: IndexPlan, leaf: Leaf) {
  const index = quote(plan.name + leaf.suffix);
  const dropInvalid = async (): Promise<void> => {
    const invalid = await pgm.db.select(
      `select from pg_index i join pg_class c on c.oid = i.indexrelid
      join pg_namespace n on n.oid = c.relnamespace
      where not i.indisvalid and c.relname = $1 and n.nspname = $2`,
      [plan.name + leaf.suffix, leaf.schema],
    );
    if (invalid.length > 0) await pgm.db.query(`drop index ${quote(leaf.schema)}.${index}`);
  };
  await dropInvalid();
  // No lock_timeout: what it waits for (older transactions, at its end) keeps no writer waiting, and
  // giving up would throw away the whole build.
  try {
    await pgm.db.query(
      `create index concurrently if not exists ${index} on ${tableName(leaf)} ${plan.on}`,
    );
  } catch (error) {
    await dropInvalid();
    throw error;
  }
}

async function buildOverPartitions(pgm: MigrationBuilder, plan: IndexPlan, leaf: Leaf) {
  const index = quote(plan.name + leaf.suffix);
  // With equal indexes on every partition this attaches them and builds nothing.
  await withLockRetries(
    pgm,
    `create index if not exists ${index} on ${tableName(leaf)} ${plan.on}`,
  );
}

function tableName(leaf: Leaf): string {
  return `${quote(leaf.schema)}.${quote(leaf.name)}`;
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
