const LEASE = 'migrations/0008_lease.sql';
const WORK = 'migrations/0006_work.sql';
const FLAG = 'migrations/0007_flag.sql';
const POLICY = 'migrations/0009_policy.sql';
const RESULT = 'migrations/0005_result.sql';
const RIGHTS = 'migrations/0016_rights.sql';

const SPARED = 'a result is spared when %s';
const SPARED_EARLY = 'a result that was selected early is spared when %s';
const CLAIM_TEST = 'test/database/claim.test.ts';
const SETTLE_TEST = 'test/database/settle.test.ts';
const LEASE_TEST = 'test/database/lease.test.ts';
const IN_FLIGHT_TEST = 'test/database/in-flight.test.ts';
const LISTED_TEST = 'test/database/security-rights.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** Promises 1 and 5: what claim checks again. */
export const claimMutations = [
  {
    name: 'the policy is not checked again',
    promise: 1,
    edits: one(
      LEASE,
      'when p_early is null or r.run_id <> e.run_id then coalesce(r.due_at < now(), false)',
      'when p_early is null or r.run_id <> e.run_id then true',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'its policy was lengthened'],
  },
  {
    name: 'a hold is not checked again',
    promise: 1,
    edits: one(
      LEASE,
      '        and bool_and(\n          not r.held\n          and case',
      '        and bool_and(\n          case',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it is held'],
  },
  {
    name: 'a moved key is not noticed',
    promise: 1,
    edits: one(
      LEASE,
      '      where r.key = e.key\n        and r.bucket = e.bucket\n    ) o on true',
      '      where r.run_id = e.run_id\n        and r.bucket = e.bucket\n    ) o on true',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it points at another key'],
  },
  {
    name: 'a moved bucket is not noticed',
    promise: 1,
    edits: one(
      LEASE,
      '      where r.key = e.key\n        and r.bucket = e.bucket\n    ) o on true',
      '      where r.key = e.key\n    ) o on true',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it points at another bucket'],
  },
  {
    name: 'a run that completed anew is not noticed',
    promise: 1,
    edits: one(
      LEASE,
      'select bool_or(r.run_id = e.run_id and r.completed_at = e.completed_at)',
      'select bool_or(r.run_id = e.run_id)',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it completed again, and that is long ago too'],
  },
  {
    name: 'the status is not checked again',
    promise: 1,
    edits: one(
      LEASE,
      "            else r.status = 'COMPLETED'\n              and greatest",
      '            else greatest',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED_EARLY, 'it failed'],
  },
  {
    name: 'what was cleared counts as live',
    promise: 1,
    edits: one(WORK, '\nwhere r.cleared_at is null;\n', ';\n'),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it was cleared by somebody else'],
  },
  {
    name: 'a shared object is not looked for',
    promise: 1,
    edits: one(
      LEASE,
      '          end\n        ) as may_go',
      '          end\n        ) filter (where r.run_id = e.run_id) as may_go',
    ),
    testFile: CLAIM_TEST,
    test: ['an object is spared while another run that points at it %s', 'is not due'],
  },
  {
    name: 'a held run does not protect a shared object',
    promise: 1,
    edits: one(
      LEASE,
      '          not r.held\n          and case',
      '          (not r.held or r.run_id <> e.run_id)\n          and case',
    ),
    testFile: CLAIM_TEST,
    test: ['an object is spared while another run that points at it %s', 'is due but held'],
  },
  {
    name: 'the date of the row is no floor',
    promise: 1,
    edits: one(WORK, '      ),\n      r.retain_until\n    )', '      )\n    )'),
    testFile: 'test/database/due-rule.test.ts',
    test: 'takes it as a floor: both it and the policy must have passed',
  },
  {
    name: 'a claim in an old snapshot is let through',
    promise: 1,
    edits: one(
      LEASE,
      "if current_setting('transaction_isolation') <> 'read committed' then",
      'if false then',
    ),
    testFile: CLAIM_TEST,
    test: 'claim cannot be called where it would not see what has committed meanwhile',
  },
  {
    name: 'a hold of a tenant is ignored',
    promise: 5,
    edits: one(WORK, 'where h.tenant_id = r.tenant_id::text\n', 'where false\n'),
    testFile: CLAIM_TEST,
    test: [SPARED, 'its tenant is held'],
  },
  {
    name: 'placing a hold keeps quiet about what is in flight',
    promise: 5,
    edits: one(
      POLICY,
      'from retention.in_flight(v_run_id, v_tenant_id) f;',
      'from retention.in_flight(v_run_id, v_tenant_id) f where false;',
    ),
    testFile: CLAIM_TEST,
    test: 'placing a hold on what is in flight says so',
  },
  {
    name: 'a hold hears nothing of what is leased for another run that shares the object',
    promise: 5,
    edits: one(POLICY, '          and e.key = v_key collate "C"\n', '          and false\n'),
    testFile: IN_FLIGHT_TEST,
    test: ['and %s: while it is leased', 'is deleted'],
  },
  {
    name: 'a hold hears nothing of what got no answer for another run that shares the object',
    promise: 5,
    edits: one(POLICY, '      where u.key = v_key collate "C"\n', '      where false\n'),
    testFile: IN_FLIGHT_TEST,
    test: ['and %s: once nobody waits for it any more', 'is re-run with another key'],
  },
  {
    name: 'a hold does not wait for claims',
    promise: 5,
    edits: one(POLICY, '  lock table retention.hold in exclusive mode;\n', ''),
    testFile: CLAIM_TEST,
    test: 'a hold waits for a claim that is being made, and then says that it is too late',
  },
  {
    name: 'a claim does not wait for holds',
    promise: 5,
    edits: one(
      LEASE,
      'lock table retention.hold, retention.expired in',
      'lock table retention.expired in',
    ),
    testFile: CLAIM_TEST,
    test: 'a claim waits for a hold that is being placed, and then spares what it covers',
  },
  {
    name: 'a request that got no answer is forgotten',
    promise: 5,
    edits: one(
      LEASE,
      '  where p_sent_at + s.unanswered_for > clock_timestamp()\n',
      '  where false\n',
    ),
    testFile: IN_FLIGHT_TEST,
    test: 'a request that got no answer is, for as long as S3 may take it',
  },
  {
    name: 'what a dead listener had asked for is forgotten by its heir',
    promise: 5,
    edits: one(LEASE, '    if v_ran_out_at is not null then\n', '    if false then\n'),
    testFile: IN_FLIGHT_TEST,
    test: 'what a dead listener had asked for is, also when others have it now',
  },
];

const FENCED = [
  'a lease that %s changes nothing, whatever its holder calls',
  'has run out and was taken over',
];

/** The other promises that the functions of the schema keep. */
export const schemaMutations = [
  {
    name: 'leases that have run out are not taken over',
    promise: 2,
    edits: one(
      LEASE,
      '        and b.visible_at <= clock_timestamp()\n      order by b.visible_at, b.batch_id\n      limit 1\n      for update skip locked;\n    else',
      '        and b.visible_at <= clock_timestamp()\n        and b.lease is null\n      order by b.visible_at, b.batch_id\n      limit 1\n      for update skip locked;\n    else',
    ),
    testFile: LEASE_TEST,
    test: 'a lease that has run out is taken over, with everything that is in the batch',
  },
  {
    name: 'what lies behind the progress is never looked at again',
    promise: 2,
    edits: one(
      FLAG,
      '  v_whole := p_whole\n    or v_by_time\n    or not',
      '  v_whole := p_whole\n    or false and not',
    ),
    testFile: 'test/database/flagging.test.ts',
    test: 'finds what was committed late, behind the point that earlier passes had reached',
  },
  {
    name: 'a pass that hit its limit is the last of the day',
    promise: 2,
    edits: one(
      FLAG,
      '  if v_beat.more\n    or v_beat.passed_at is null',
      '  if v_beat.passed_at is null',
    ),
    testFile: 'test/database/flagging.test.ts',
    test: 'comes with the next tick when the last one hit its limit',
  },
  {
    name: 'rows that point elsewhere are stamped',
    promise: 3,
    edits: one(RESULT, '        and r.key = g.key collate "C"\n', ''),
    testFile: SETTLE_TEST,
    test: ['promise 3: a run that %s is not stamped', 'points at another key by now'],
  },
  {
    name: 'what was not asked for in this batch is stamped',
    promise: 3,
    edits: one(
      RESULT,
      '          where e.batch_id = $1\n            and e.run_id',
      '          where e.run_id',
    ),
    testFile: SETTLE_TEST,
    test: 'promise 3: a run of another batch, or of none, cannot be stamped',
  },
  {
    name: 'a full notification queue fails a stamp',
    promise: 2,
    edits: one(
      WORK,
      '  v_batch record;\nbegin\n  if pg_notification_queue_usage() > 0.5 then',
      '  v_batch record;\nbegin\n  if pg_notification_queue_usage() > 2 then',
    ),
    testFile: 'test/system/bad-days-queue.test.ts',
    test: 'really full: nothing is announced, the work goes on, and it is said everywhere',
  },
  {
    name: 'rows are deleted',
    promise: 4,
    edits: one(
      LEASE,
      'from retention.stamp(p_batch_id, v_batch.bucket, p_cleared, v_setting.default_bucket) s;',
      'from retention.stamp(p_batch_id, v_batch.bucket, p_cleared, v_setting.default_bucket) s;\n    delete from retention.result r where r.run_id = any (p_cleared);',
    ),
    testFile: SETTLE_TEST,
    test: 'promise 3 and 4: stamps what was deleted, moves updated_at with it, and touches no other row',
  },
  {
    name: 'another column is written',
    promise: 4,
    edits: one(
      RESULT,
      'set cleared_at = now()%s\n      from unnest(v_run_ids',
      "set status = ''GONE'', cleared_at = now()%s\n      from unnest(v_run_ids",
    ),
    testFile: SETTLE_TEST,
    test: 'leaves every other column as it was',
  },
  {
    name: 'a failure is final',
    promise: 6,
    edits: one(LEASE, 'and (e.attempts + 1 >= p_max_attempts or', 'and (true or'),
    testFile: SETTLE_TEST,
    test: 'promise 6: what was refused waits, and the others of its batch are cleared',
  },
  {
    name: 'a failure is never final',
    promise: 6,
    edits: one(LEASE, 'and (e.attempts + 1 >= p_max_attempts or', 'and (false or'),
    testFile: SETTLE_TEST,
    test: 'promise 6: pauses between attempts grow up to a cap, and the tenth failure is the last',
  },
  {
    name: 'pauses do not grow',
    promise: 6,
    edits: one(LEASE, 'p_base * power(2, least(p_tries, 30))', 'p_base'),
    testFile: SETTLE_TEST,
    test: 'promise 6: pauses between attempts grow up to a cap, and the tenth failure is the last',
  },
  {
    name: 'throttles count against a result',
    promise: 6,
    edits: one(
      LEASE,
      'set attempts = e.attempts + case when v_part.transient then 0 else 1 end,',
      'set attempts = e.attempts + 1,',
    ),
    testFile: SETTLE_TEST,
    test: 'what was throttled or timed out is not counted against a result',
  },
  {
    name: 'a paused bucket is not passed by',
    promise: 6,
    edits: one(
      LEASE,
      'or k.paused_until <= clock_timestamp()\n    order by',
      'or true\n    order by',
    ),
    testFile: LEASE_TEST,
    test: 'are passed by while their bucket is paused, and no other is',
  },
  {
    name: 'a bucket that is gone does not pause',
    promise: 6,
    edits: one(
      LEASE,
      "if v_refusal = 'NoSuchBucket' or v_part.refused_in_row > 1 then",
      'if false then',
    ),
    testFile: SETTLE_TEST,
    test: 'a bucket that is gone pauses at once; one that refuses everything, the second time',
  },
  {
    name: 'flagging keeps writers out of the table',
    promise: 7,
    edits: one(
      FLAG,
      '  select * into v_beat from retention.heartbeat for update skip locked;',
      '  lock table retention.result in share row exclusive mode;\n  select * into v_beat from retention.heartbeat for update skip locked;',
    ),
    testFile: 'test/database/flagging.test.ts',
    test: "takes no lock on the application's table that its writers would notice",
  },
  {
    name: 'a claim looks at results while they are moved',
    promise: 2,
    edits: one(
      LEASE,
      'lock table retention.hold, retention.expired in',
      'lock table retention.hold in',
    ),
    testFile: 'test/database/reclaim.test.ts',
    test: 'promise 2: a claim that waits for it finds every result where it is then',
  },
  {
    name: 'a claim locks rows of the table',
    promise: 7,
    edits: one(
      LEASE,
      '  lock table retention.hold, retention.expired in row share mode;\n',
      '  lock table retention.hold, retention.expired in row share mode;\n  perform from retention.result r where r.run_id in (select e.run_id from retention.expired e where e.batch_id = v_batch_id) for update;\n',
    ),
    testFile: 'test/database/locks.test.ts',
    test: 'claiming waits for no writer, not even for one that keeps all others out',
  },
  {
    name: 'settling keeps writers out of the table',
    promise: 7,
    edits: one(
      LEASE,
      '  if cardinality(p_cleared) > 0 then\n',
      "  set local lock_timeout = '3s';\n  lock table retention.result in share row exclusive mode;\n  if cardinality(p_cleared) > 0 then\n",
    ),
    testFile: 'test/database/locks.test.ts',
    test: 'settling stands in the way of no other row, and leaves no lock behind',
  },
  {
    name: 'settle is not fenced by the lease',
    promise: 8,
    edits: one(
      LEASE,
      '    and b.lease = p_lease\n  for update;\n  if not found then\n    return query',
      '  for update;\n  if not found then\n    return query',
    ),
    testFile: LEASE_TEST,
    test: FENCED,
  },
  {
    name: 'postpone is not fenced by the lease',
    promise: 8,
    edits: one(
      LEASE,
      '    and b.lease = p_lease\n  for update;\n  if not found then\n    return null;\n  end if;\n  perform retention.note_unanswered_in(p_batch_id, p_unanswered);\n  v_until',
      '  for update;\n  if not found then\n    return null;\n  end if;\n  perform retention.note_unanswered_in(p_batch_id, p_unanswered);\n  v_until',
    ),
    testFile: LEASE_TEST,
    test: FENCED,
  },
  {
    name: 'split is not fenced by the lease',
    promise: 8,
    edits: one(LEASE, '    and b.lease = p_lease\n    and b.results > 1', '    and b.results > 1'),
    testFile: LEASE_TEST,
    test: FENCED,
  },
  {
    name: 'give_back is not fenced by the lease',
    promise: 8,
    edits: one(
      LEASE,
      '  where b.batch_id = p_batch_id\n    and b.lease = p_lease;\n  return found;',
      '  where b.batch_id = p_batch_id;\n  return found;',
    ),
    testFile: LEASE_TEST,
    test: FENCED,
  },
  {
    name: 'a claim does not heed a valid lease',
    promise: 8,
    edits: one(
      LEASE,
      'visible_at = clock_timestamp() + p_lease_for',
      'visible_at = clock_timestamp()',
    ),
    testFile: LEASE_TEST,
    test: 'a batch that is leased is not handed out again',
  },
  {
    name: 'a batch is not locked while it is leased',
    promise: 8,
    edits: one(
      LEASE,
      '      limit 1\n      for update skip locked;\n    else',
      '      limit 1;\n    else',
    ),
    testFile: LEASE_TEST,
    test: 'listeners that claim at the same time get a batch each',
  },
  {
    name: 'the role may write every column of the view',
    promise: 10,
    edits: one(
      RIGHTS,
      "execute format('grant update (cleared_at, updated_at) on retention.result to %I', p_role);",
      "execute format('grant update on retention.result to %I', p_role);",
    ),
    testFile: LISTED_TEST,
    test: "the listener's role reads the schema, stamps through the view, and has nothing more",
  },
  {
    name: 'the role may call what stamps without a batch',
    promise: 10,
    edits: one(
      RIGHTS,
      'retention.pulse(), retention.read_status()',
      'retention.stamp(bigint, text, retention.run_id[], text), retention.pulse(), retention.read_status()',
    ),
    testFile: LISTED_TEST,
    test: "the listener's role may call these functions and no other",
  },
  {
    name: 'everybody may call everything',
    promise: 10,
    edits: one(RIGHTS, 'revoke all on all functions in schema retention from public;\n', ''),
    testFile: LISTED_TEST,
    test: 'a stranger may nothing, and PUBLIC neither',
  },
  {
    name: "a function runs as its owner under the caller's path",
    promise: 10,
    edits: one(
      POLICY,
      'returns boolean\nlanguage plpgsql\nsecurity definer\nset search_path = pg_catalog, pg_temp\nas $$',
      'returns boolean\nlanguage plpgsql\nsecurity definer\nas $$',
    ),
    testFile: 'test/database/security-search-path.test.ts',
    test: ['%s runs none of them', 'release_hold'],
  },
  {
    name: 'a view reads a text under the path of who asks',
    promise: 10,
    edits: one(
      WORK,
      'return (hashtextextended(p_run_id, 0::bigint) & 65535::bigint)::double precision / 65536::double precision;',
      'as $$ select (hashtextextended(p_run_id, 0) & 65535) / 65536.0::double precision $$;',
    ),
    testFile: 'test/database/security-search-path.test.ts',
    test: "an operator's own session, with the usual path, runs none of them either",
  },
  {
    name: 'flagging reads the whole table',
    promise: 11,
    edits: one(
      FLAG,
      "    where r.tenant_id = p_tenant_id\n      and r.status = 'COMPLETED'\n      and r.has_key\n",
      "    where r.tenant_id = p_tenant_id\n      and r.status = 'COMPLETED'\n",
    ),
    testFile: 'test/database/cost.test.ts',
    test: ['a pass reads what is newly due, and not %s', 'results of another tenant'],
  },
  {
    name: 'flagging reads what is not due yet',
    promise: 11,
    edits: one(
      FLAG,
      "    where r.tenant_id = p_tenant_id\n      and r.status = 'COMPLETED'\n      and r.has_key\n      and r.completed_at < p_before\n",
      "    where r.tenant_id = p_tenant_id\n      and r.status = 'COMPLETED'\n      and r.has_key\n      and r.completed_at + interval '0' < p_before\n",
    ),
    testFile: 'test/database/cost.test.ts',
    test: ['a pass reads what is newly due, and not %s', 'results that are not due'],
  },
  {
    name: 'every pass starts from the oldest',
    promise: 11,
    edits: one(FLAG, '  v_whole := p_whole\n', '  v_whole := true or p_whole\n'),
    testFile: 'test/database/flagging.test.ts',
    test: 'goes on from where it stopped while much lies behind',
  },
  {
    name: 'what was asked is counted as stamped',
    promise: 12,
    edits: one(
      LEASE,
      'select true, v_cleared::integer, v_stamped::integer,',
      'select true, v_cleared::integer, cardinality(p_cleared),',
    ),
    testFile: SETTLE_TEST,
    test: ['promise 3: a run that %s is not stamped', 'points at another key by now'],
  },
];
