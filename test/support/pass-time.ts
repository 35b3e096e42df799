import type { TestDatabase } from './database.ts';

/**
 * Lets time pass: every instant of the schema and of the runs moves back.
 *
 * @param interval such as `1 day`
 */
export async function passTime(
  { query }: Pick<TestDatabase, 'query'>,
  interval: string,
): Promise<void> {
  await query(`do $$
    declare
      v_table record;
    begin
      -- What is sealed stays as it is, unless its triggers are off.
      perform set_config('session_replication_role', 'replica', true);
      for v_table in
        select a.attrelid::regclass as name,
          string_agg(format('%1$I = %1$I - interval %2$L', a.attname, '${interval}'), ', ') as changes
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        where c.relkind = 'r'
          and (c.relnamespace = 'retention'::regnamespace or c.oid = 'public.runs'::regclass)
          and a.atttypid = 'timestamptz'::regtype
          and not a.attisdropped
        group by a.attrelid
      loop
        execute format('update %s set %s', v_table.name, v_table.changes);
      end loop;
    end
  $$`);
}
