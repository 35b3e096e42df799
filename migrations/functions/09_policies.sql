/*
By which policies a batch was judged when it was claimed: its receipt keeps it, whatever becomes of the policies.
*/

-- How long results of these tenants are kept by the policies in force: {"*": "30 days"}, and those of them that have a
-- policy of their own. p_cutoff: a person has asked for all of them by this one; null: by the policies. Null: there are none.
create or replace function retention._policies_of(p_tenants text[], p_cutoff interval)
returns jsonb
language plpgsql
stable
set intervalstyle = 'postgres'
as $$
begin
  if p_cutoff is not null then
    return jsonb_build_object('*', retention._in_days(p_cutoff)::text);
  end if;
  if not exists (select from retention.policy p where p.tenant_id <> '*') then
    return (select jsonb_build_object('*', retention._in_days(p.retain)::text) from retention.policy p);
  end if;
  return (
    select jsonb_object_agg(p.tenant_id, retention._in_days(p.retain)::text)
    from (select distinct u.tenant_id from unnest(p_tenants || '*'::text) as u (tenant_id)) t
    join retention.policy p on p.tenant_id = t.tenant_id
  );
end
$$;
