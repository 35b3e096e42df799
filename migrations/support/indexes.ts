import type { MigrationBuilder } from 'node-pg-migrate';
import { withLockRetries } from './live-table.ts';

interface Leaf {
  readonly schema: string;
  readonly name: string;
  readonly suffix: string;
  readonly partitioned: boolean;
}

/** An index of `retention._index_plan()`. */
interface IndexPlan {
  readonly name: string;
  readonly columns: string;
  readonly mark: string;
  readonly is_there: boolean;
}

/**
 * Builds those of our two indexes that are missing, concurrently, one table at a time, and drops those that
 * the mapping no longer asks for. An index that a lost try left invalid is dropped and built again.
 */
export async function buildIndexes(pgm: MigrationBuilder): Promise<void> {
  const plans = (await pgm.db.select(
    'select name, columns, mark, is_there from retention._index_plan()',
  )) as IndexPlan[];
  const leaves = (await pgm.db.select(
    `select n.nspname as schema, c.relname as name,
      case when t.level = 0 then '' else '_' || c.oid::text end as suffix,
      c.relkind = 'p' as partitioned
    from (
      select a.table_oid as relid, 0 as level from retention.adapter a
      union
      select t.relid, t.level
      from retention.adapter a
      cross join lateral pg_partition_tree(a.table_oid) t
    ) t
    join pg_class c on c.oid = t.relid
    join pg_namespace n on n.oid = c.relnamespace
    -- A foreign partition has the indexes that its own server gives it.
    where c.relkind in ('r', 'p')
    order by t.level desc, c.relname`,
  )) as Leaf[];
  for (const plan of plans.filter(({ is_there }) => !is_there)) {
    for (const leaf of leaves) {
      if (!leaf.partitioned) await buildConcurrently(pgm, plan, leaf);
    }
    // Deepest first, so that each parent finds its children's indexes to attach.
    for (const leaf of leaves) {
      if (leaf.partitioned) await buildOverPartitions(pgm, plan, leaf);
    }
    const root = leaves.find(({ suffix }) => suffix === '');
    if (root === undefined) throw new Error('the adopted table is not there any more');
    await pgm.db.query(
      `comment on index ${quote(root.schema)}.${quote(plan.name)} is '${plan.mark.replaceAll("'", "''")}'`,
    );
  }
  for (const { name } of await ourIndexes(pgm, 'retention._our_indexes(true)')) {
    await withLockRetries(pgm, `drop index ${name}`);
  }
}

/** Drops our indexes, whatever is left of the functions. */
export async function dropIndexes(pgm: MigrationBuilder): Promise<void> {
  const indexes = await ourIndexes(
    pgm,
    `(
      select format('%I.%I', n.nspname, c.relname)
      from retention.adapter a
      join pg_index i on i.indrelid = a.table_oid
      join pg_class c on c.oid = i.indexrelid
      join pg_namespace n on n.oid = c.relnamespace
      where obj_description(c.oid, 'pg_class') like 'retention-reactor: %'
    )`,
  );
  for (const { name } of indexes) await withLockRetries(pgm, `drop index ${name}`);
}

async function ourIndexes(
  pgm: MigrationBuilder,
  source: string,
): Promise<readonly { readonly name: string }[]> {
  return (await pgm.db.select(`select name from ${source} as i (name)`)) as { name: string }[];
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
      `create index concurrently if not exists ${index} on ${tableName(leaf)} ${plan.columns}`,
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
    `create index if not exists ${index} on ${tableName(leaf)} ${plan.columns}`,
  );
}

function tableName(leaf: Leaf): string {
  return `${quote(leaf.schema)}.${quote(leaf.name)}`;
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
