/*
Four eyes: what deletes more or earlier needs two people, where setting.four_eyes says so.
*/

-- Raises insufficient_privilege for an act that needs a second person. p_kind: policy, early, surge, hold, orphans
-- or purge. p_what: what exactly is asked. Called by the function that does it, before it changes anything.
create or replace function retention._two_people(p_kind text, p_what jsonb)
returns void
language plpgsql
as $$
begin
  if (select s.four_eyes from retention.setting s) then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('%s needs two people: %s', p_kind, p_what);
  end if;
end
$$;
