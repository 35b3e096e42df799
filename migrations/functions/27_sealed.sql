/*
What is sealed stays as it is: no role but the owner has rights on these tables, and these triggers refuse the owner's
own slips (13_not_emptied: TRUNCATE). What an owner does who takes them away is found by verify.
*/

-- Refuses to change or delete what is sealed, and any change of the log of changes but its sealing. A receipt goes with
-- the others of its seal, when retention._prune_receipts has let them go.
create or replace function retention._guard_sealed()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_name = 'change' then
    if tg_op = 'UPDATE' and old.seal_id is null and to_jsonb(new) - 'seal_id' = to_jsonb(old) - 'seal_id' then
      return new;
    end if;
    raise exception using
      errcode = 'RR060',
      message = format('the log of changes is only appended to: change %s stays as it is', old.change_id);
  end if;
  if tg_op = 'DELETE'
    and exists (select from retention.seal s where s.seal_id = old.seal_id and s.pruned_at is not null)
  then
    return old;
  end if;
  raise exception using
    errcode = 'RR060',
    message = format(
      'receipt %s of seal %s stays as it is',
      tg_table_name || '-' || (to_jsonb(old) ->> (tg_table_name || '_id')), old.seal_id
    ),
    hint = 'What happened later is a receipt of its own.';
end
$$;

-- Refuses to change or delete a seal. That its receipts are removed is written down, when their time has passed.
create or replace function retention._guard_seal()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE'
    and old.pruned_at is null
    and to_jsonb(new) - 'pruned_at' = to_jsonb(old) - 'pruned_at'
    and old.sealed_at < now() - (select s.receipts_kept from retention.setting s)
  then
    return new;
  end if;
  raise exception using
    errcode = 'RR060',
    message = format('seal %s stays as it is', old.seal_id),
    hint = 'Its receipts are removed by the tick when setting.receipts_kept has passed.';
end
$$;

create or replace trigger guard_sealed
before update or delete on retention.batch
for each row
when (old.seal_id is not null)
execute function retention._guard_sealed();

create or replace trigger guard_sealed
before update or delete on retention.receipt
for each row
when (old.seal_id is not null)
execute function retention._guard_sealed();

create or replace trigger guard_sealed
before update or delete on retention.change
for each row
execute function retention._guard_sealed();

create or replace trigger guard_seal
before update or delete on retention.seal
for each row
execute function retention._guard_seal();

-- Removes the receipts of seals that are older than setting.receipts_kept. Their digests stay in the seal, so that the
-- chain can be verified; so do the changes. Some 20,000 receipts at a time: the others wait for the next hour.
create or replace function retention._prune_receipts()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_seals bigint[] := array(
    select w.seal_id
    from (
      select o.seal_id,
        sum(cardinality(o.batches) + cardinality(o.receipts)) over (order by o.seal_id rows unbounded preceding) as receipts
      from (
        select s.seal_id, s.batches, s.receipts
        from retention.seal s
        where s.pruned_at is null
          and s.sealed_at < now() - (select t.receipts_kept from retention.setting t)
        order by s.sealed_at
        limit 1000
      ) o
    ) w
    where w.receipts <= 20000
  );
begin
  update retention.seal s set pruned_at = clock_timestamp() where s.seal_id = any (v_seals);
  delete from retention.batch b
  where b.seal_id = any (v_seals)
    and b.settled_at is not null
    and b.cleared > 0;
  delete from retention.receipt r where r.seal_id = any (v_seals);
end
$$;
