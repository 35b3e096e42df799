const FOLDER = 'migrations/functions';
const WORDS = `${FOLDER}/01_words.sql`;
const RESULT = `${FOLDER}/04_result.sql`;
const GATE = `${FOLDER}/05_gate.sql`;
const ANNOUNCE = `${FOLDER}/06_announce.sql`;
const DUE = `${FOLDER}/07_due.sql`;
const FLAG = `${FOLDER}/07_flag.sql`;
const PASS = `${FOLDER}/07_pass.sql`;
const TICK = `${FOLDER}/08_tick.sql`;
const APART = `${FOLDER}/09_apart.sql`;
const CHECK = `${FOLDER}/09_check.sql`;
const CLAIM = `${FOLDER}/09_claim.sql`;
const NEXT = `${FOLDER}/09_next_batch.sql`;
const SETTLE = `${FOLDER}/10_settle.sql`;
const STAMP = `${FOLDER}/10_stamp.sql`;
const FAILURES = `${FOLDER}/10_failures.sql`;
const HOLD = `${FOLDER}/13_hold.sql`;
const SELECT = `${FOLDER}/14_select.sql`;
const CLOCK = `${FOLDER}/23_clock.sql`;
const CLOCK_TEST = 'test/database/clock.test.ts';
const OUTLOOK = `${FOLDER}/15_outlook.sql`;
const WATCHED = `${FOLDER}/15_watched.sql`;
const RIGHTS = `${FOLDER}/19_rights.sql`;

const TABLE = `${FOLDER}/02_table.sql`;
const REPORT = `${FOLDER}/03_report.sql`;
const POLICY = `${FOLDER}/11_policy.sql`;
const VARIABLES = `${FOLDER}/12_variables.sql`;
const IDENTITY_TEST = 'test/database/identity.test.ts';
const AS_THEY_ARE_TEST = 'test/database/tables-as-they-are.test.ts';

const SPARED = 'a result is spared when %s';
const SPARED_EARLY = 'a result that was selected early is spared when %s';
const CLOSED = 'keeps everything where it is: %s';
const CLAIM_TEST = 'test/database/claim.test.ts';
const BATCHES_TEST = 'test/database/batches.test.ts';
const FLAGGING_TEST = 'test/database/flagging.test.ts';
const GATE_TEST = 'test/database/gate.test.ts';
const SETTLE_TEST = 'test/database/settle.test.ts';
const LEASE_TEST = 'test/database/lease.test.ts';
const IN_FLIGHT_TEST = 'test/database/in-flight.test.ts';
const STATUS_COST_TEST = 'test/database/status-cost.test.ts';
const OUTLOOK_TEST = 'test/database/outlook.test.ts';
const FOOTPRINT_TEST = 'test/database/footprint.test.ts';
const LISTED_TEST = 'test/database/security-rights.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** How a result of an ordinary batch, and whoever shares its object, is looked up. */
const LOOKED_UP =
  '      where r.key_hash = retention._key_hash(e.key)\n        and r.key = e.key collate "C"\n' +
  '        and r.bucket = p_batch.bucket\n    ) o;\n  elsif';

/** What a pass reads of a tenant. */
const PAST =
  '      r.is_due,\n      r.has_place\n    from retention._live r\n' +
  '    where r.tenant_id = p_tenant_id\n      and r.is_candidate\n      and r.completed_at < p_before\n';

/** What the stamp asks of a row, where the table has an updated-at column. */
const STAMPED =
  '      updated_at = pg_catalog.now()\n    from unnest(p_run_ids, p_keys) as g (run_id, key)\n' +
  '    where r.run_id operator(pg_catalog.=) g.run_id\n' +
  '      and (\n' +
  '        r.key operator(pg_catalog.=) retention._unpack_key(g.key, g.run_id::pg_catalog.text) collate pg_catalog."C"\n' +
  "        and coalesce(case when r.bucket operator(pg_catalog.<>) '' then r.bucket end, v_default_bucket)\n" +
  '          operator(pg_catalog.=) p_bucket\n' +
  '        and r.status::pg_catalog.text operator(pg_catalog.=) v_completed\n' +
  '        and r.completed_at operator(pg_catalog.>=) p_oldest\n' +
  '        and r.completed_at operator(pg_catalog.<=) p_newest\n';

/** A mutation of the stamp that leaves out, or replaces, a part of what it asks. */
const stamping = (part, replace = '') =>
  one(
    STAMP,
    STAMPED,
    STAMPED.replace(part, () => replace),
  );

/** What the application's table is taken for: its ids, its default bucket, whether it can be adopted at all. */
export const adoptionMutations = [
  {
    name: 'a policy is kept as it was typed',
    promise: 1,
    edits: one(
      POLICY,
      '  return retention._read_tenant_id(p_tenant_id)::text;\n',
      '  return p_tenant_id;\n',
    ),
    testFile: IDENTITY_TEST,
    test: ['%s: another spelling is the same tenant', 'uuid'],
  },
  {
    name: 'what is read in part is taken for the whole',
    promise: 5,
    edits: one(RESULT, "  when 'numeric'::regtype then p_text::numeric = p_read::numeric\n", ''),
    testFile: IDENTITY_TEST,
    test: ['%s: another spelling is the same tenant', 'numeric(20, 0)'],
  },
  {
    name: 'ids of several spellings are adopted',
    promise: 5,
    edits: one(
      TABLE,
      "    else format('column %I is of type %s, of which one value may be written in several ways', p_column, c.type)\n",
      '',
    ),
    testFile: IDENTITY_TEST,
    test: ['%s: refused as tenant and as run id, in one sentence', 'citext'],
  },
  {
    name: 'another bucket in the variable changes the default bucket',
    promise: 1,
    edits: one(
      VARIABLES,
      "    when p_name = 'default_bucket' and (p_stored is not null or p_known.set_at is not null)\n",
      "    when p_name = 'default_bucket' and p_known.set_at is not null\n",
    ),
    testFile: 'test/database/stored-settings.test.ts',
    test: ['is changed by a person, not by the variable: %s', 'other'],
  },
  {
    name: 'hidden rows are no reason to stand still',
    promise: 1,
    edits: one(RESULT, '  if v_table.is_secured then\n', '  if false then\n'),
    testFile: AS_THEY_ARE_TEST,
    test: 'row-level security that hides rows of the owner: refused before, and nothing is claimed after',
  },
  {
    name: 'a table whose rows are hidden is adopted',
    promise: 1,
    edits: one(
      REPORT,
      '  where retention._hides_rows(p_table, p_owner)\n',
      '  where false and retention._hides_rows(p_table, p_owner)\n',
    ),
    testFile: AS_THEY_ARE_TEST,
    test: 'row-level security that hides rows of the owner: refused before, and nothing is claimed after',
  },
  {
    name: 'a stamp lands in the table that was renamed away',
    promise: 3,
    edits: one(
      STAMP,
      '  perform retention._check_table();\n  return v_stamped;\nend\n$$;\n\n-- As _stamp, for a table with triggers',
      '  return v_stamped;\nend\n$$;\n\n-- As _stamp, for a table with triggers',
    ),
    testFile: AS_THEY_ARE_TEST,
    test: 'while a stamp waits for its lock: the stamp lands in neither',
  },
  {
    name: 'every key is indexed',
    promise: 4,
    edits: one(
      'migrations/functions/02_columns.sql',
      '(case when octet_length(%1$s::text) <= 1024 then %1$s::text end collate "C")',
      '(%1$s::text collate "C")',
    ),
    testFile: AS_THEY_ARE_TEST,
    test: "is never in the way of the application's INSERT, nor of the adoption",
  },
];

/** Promises 1 and 5: what claim checks again, and when it is not asked at all. */
export const claimMutations = [
  {
    name: 'a cutoff outlives its command',
    promise: 1,
    edits: one(
      CLAIM,
      'v_is_early := p_before.early is not null and p_by_number and retention._has_command(p_before.flagged_at);',
      'v_is_early := v_before.early is not null;',
    ),
    testFile: 'test/database/early-cutoff.test.ts',
    test: ['stands for nothing once its command %s: what is left goes by the policy', 'is gone'],
  },
  {
    name: 'what raises in a claim fails the claim',
    promise: 6,
    edits: one(CHECK, '        if retention._is_passing(sqlstate) then', '        if true then'),
    testFile: 'test/database/bad-rows.test.ts',
    test: ['is booked as failed with %s, and 39 others are handed out', '22008'],
  },
  {
    name: 'the policy is not checked again',
    promise: 1,
    edits: one(
      CHECK,
      'bool_and(r.is_due) as may_go',
      'bool_and(r.is_candidate and not r.held) as may_go',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'its policy was lengthened'],
  },
  {
    name: 'a hold is not checked again',
    promise: 1,
    edits: one(
      CHECK,
      'bool_and(r.is_due) as may_go',
      'bool_and(coalesce(r.due_at < now(), false)) as may_go',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it is held'],
  },
  {
    name: 'a moved key is not noticed',
    promise: 1,
    edits: one(
      CHECK,
      LOOKED_UP,
      LOOKED_UP.replace(
        'r.key_hash = retention._key_hash(e.key)\n        and r.key = e.key collate "C"',
        'r.run_id = e.run_id',
      ),
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it points at another key'],
  },
  {
    name: 'two keys with one hash are taken for one',
    promise: 1,
    edits: one(CHECK, LOOKED_UP, LOOKED_UP.replace('        and r.key = e.key collate "C"\n', '')),
    testFile: FOOTPRINT_TEST,
    test: 'keys of which the index knows the same number are told apart',
  },
  {
    name: 'a moved bucket is not noticed',
    promise: 1,
    edits: one(CHECK, LOOKED_UP, LOOKED_UP.replace('        and r.bucket = p_batch.bucket\n', '')),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it points at another bucket'],
  },
  {
    name: 'the status is not checked again',
    promise: 1,
    edits: one(CHECK, 'return p_due_at is not null\n  and coalesce', 'return coalesce'),
    testFile: CLAIM_TEST,
    test: [SPARED_EARLY, 'it failed'],
  },
  {
    name: 'a confirmed cutoff stands in for a hold as well',
    promise: 1,
    edits: one(
      CHECK,
      '          or r.run_id = e.run_id\n            and not r.held\n',
      '          or r.run_id = e.run_id\n',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED_EARLY, 'it is held'],
  },
  {
    name: 'what was cleared counts as live',
    promise: 1,
    edits: one(RESULT, '      where r.cleared_at is null\n    ) l\n', '    ) l\n'),
    testFile: CLAIM_TEST,
    test: [SPARED, 'it was cleared by somebody else'],
  },
  {
    name: 'a shared object is not looked for',
    promise: 1,
    edits: one(
      CHECK,
      'bool_and(r.is_due) as may_go',
      'bool_and(r.is_due) filter (where r.run_id = e.run_id) as may_go',
    ),
    testFile: CLAIM_TEST,
    test: ['an object is spared while another run that points at it %s', 'is not due'],
  },
  {
    name: 'a held run does not protect a shared object',
    promise: 1,
    edits: one(
      CHECK,
      'bool_and(r.is_due) as may_go',
      'bool_and(r.is_due or r.held and r.run_id <> e.run_id) as may_go',
    ),
    testFile: CLAIM_TEST,
    test: ['an object is spared while another run that points at it %s', 'is due but held'],
  },
  {
    name: 'the date of the row is no floor',
    promise: 1,
    edits: one(
      RESULT,
      '            ),\n            r.retain_until\n          )\n',
      '            )\n          )\n',
    ),
    testFile: 'test/database/due-rule.test.ts',
    test: 'takes it as a floor: both it and the policy must have passed',
  },
  {
    name: 'a claim in an old snapshot is let through',
    promise: 1,
    edits: one(
      CLAIM,
      "if current_setting('transaction_isolation') <> 'read committed' then",
      'if false then',
    ),
    testFile: CLAIM_TEST,
    test: 'claim cannot be called where it would not see what has committed meanwhile',
  },
  {
    name: 'a claim does not ask the gate',
    promise: 1,
    edits: one(CLAIM, 'if not retention._is_open(p_client) or', 'if'),
    testFile: CLAIM_TEST,
    test: 'nothing is handed out while the reactor is disabled',
  },
  {
    name: 'flagging does not ask the gate',
    promise: 1,
    edits: one(PASS, 'if not retention._is_open() then', 'if false then'),
    testFile: FLAGGING_TEST,
    test: 'does nothing while the reactor is disabled',
  },
  {
    name: 'a halt by hand halts nothing',
    promise: 1,
    edits: one(GATE, 'if v_setting.halted_at is not null then', 'if false then'),
    testFile: GATE_TEST,
    test: [CLOSED, 'halted'],
  },
  {
    name: 'another table under the old name is not noticed',
    promise: 1,
    edits: one(
      RESULT,
      'if v_table.named_oid is distinct from v_table.table_oid then',
      'if v_table.named_oid is null then',
    ),
    testFile: GATE_TEST,
    test: [CLOSED, 'table replaced'],
  },
  {
    name: 'a client that does not fit the schema may claim',
    promise: 1,
    edits: one(GATE, "if v_fits <> 'fits' then", 'if false then'),
    testFile: GATE_TEST,
    test: ['gives nothing to a client %s', 'that is older than what it serves'],
  },
  {
    name: 'a hold of a tenant is ignored',
    promise: 5,
    edits: one(
      RESULT,
      '            where h.tenant_id = r.tenant_id::text\n',
      '            where false\n',
    ),
    testFile: CLAIM_TEST,
    test: [SPARED, 'its tenant is held'],
  },
  {
    name: 'placing a hold keeps quiet about what is in flight',
    promise: 5,
    edits: one(
      HOLD,
      'from retention._in_flight(v_run_id, v_tenant_id) f;',
      'from retention._in_flight(v_run_id, v_tenant_id) f where false;',
    ),
    testFile: CLAIM_TEST,
    test: 'placing a hold on what is in flight says so',
  },
  {
    name: 'a hold on a run hears nothing of what was sent for another that shares the object',
    promise: 5,
    edits: one(
      HOLD,
      'where retention._unpack_key(e.key, e.run_id::text) = v_key collate "C"',
      'where false',
    ),
    testFile: IN_FLIGHT_TEST,
    test: ['and %s: while it is leased', 'is deleted'],
  },
  {
    name: 'a hold on a tenant hears nothing of what was sent for another run that shares the object',
    promise: 5,
    edits: one(
      HOLD,
      '      where (v_setting.check_shared_objects or a.run_id is null)\n',
      '      where false\n',
    ),
    testFile: IN_FLIGHT_TEST,
    test: ['and %s: once nobody waits for it any more', 'is re-run with another key'],
  },
  {
    name: 'a hold does not wait for claims',
    promise: 5,
    edits: one(HOLD, "  perform retention._lock_holds('exclusive');\n", ''),
    testFile: CLAIM_TEST,
    test: 'a hold waits for a claim that is being made, and then says that it is too late',
  },
  {
    name: 'a hold waits for ever',
    promise: 5,
    edits: one(
      HOLD,
      "returns void\nlanguage plpgsql\nset lock_timeout = '10s'",
      "returns void\nlanguage plpgsql\nset lock_timeout = '0'",
    ),
    testFile: CLOCK_TEST,
    test: 'keeps no other hold waiting for long, and is named',
  },
  {
    name: 'a retry of the future is waited for',
    promise: 2,
    edits: one(
      CLAIM,
      'if v_batch_id is null and retention._bring_back_times() then',
      'if false then',
    ),
    testFile: CLOCK_TEST,
    test: 'a retry that waits for a year is claimed by who finds nothing else',
  },
  {
    name: 'a pass of the future is waited for',
    promise: 2,
    edits: one(TICK, '  perform retention._bring_back_times();\n', ''),
    testFile: CLOCK_TEST,
    test: ['the next tick flags, though heartbeat.%s lies in the future', 'passed_at'],
  },
  {
    name: 'a lease of the future ends at once',
    promise: 8,
    edits: one(CLOCK, 'else b.visible_at - b.leased_at\n', "else interval '0'\n"),
    testFile: CLOCK_TEST,
    test: 'a lease of the future begins again with its own length, and its holder may still settle',
  },
  {
    name: 'a claim does not wait for holds',
    promise: 5,
    edits: one(CLAIM, '  lock table retention.hold in row share mode;\n', ''),
    testFile: CLAIM_TEST,
    test: 'a claim waits for a hold that is being placed, and then spares what it covers',
  },
  {
    name: 'a request that got no answer is forgotten',
    promise: 5,
    edits: one(CLAIM, "if v_until <= clock_timestamp() or p_keys = '{}' then", 'if true then'),
    testFile: IN_FLIGHT_TEST,
    test: 'a request that got no answer is, for as long as S3 may take it',
  },
  {
    name: 'what a dead listener had asked for is forgotten by its heir',
    promise: 5,
    edits: one(CLAIM, 'if v_before.lease is not null then', 'if false then'),
    testFile: IN_FLIGHT_TEST,
    test: 'what a dead listener had asked for is, also when others have it now',
  },
  {
    name: 'what a dead listener had asked for is forgotten by a narrowed reconcile',
    promise: 5,
    edits: one(
      SELECT,
      '    and b.lease is not null\n    and exists (\n',
      '    and false\n    and exists (\n',
    ),
    testFile: IN_FLIGHT_TEST,
    test: [
      'what a dead listener had asked for is, also when %s has taken it over',
      'reconcile --run',
    ],
  },
  {
    name: 'what a dead listener had asked for is forgotten by a retry of everything',
    promise: 5,
    edits: one(
      SELECT,
      '    where b.batch_id = any (v_batch_ids)\n      and b.lease is not null;\n',
      '    where false;\n',
    ),
    testFile: IN_FLIGHT_TEST,
    test: ['what a dead listener had asked for is, also when %s has taken it over', 'retry'],
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
      NEXT,
      '    order by b.visible_at, b.batch_id\n    limit 1\n    for update skip locked;\n    return',
      '      and b.lease is null\n' +
        '    order by b.visible_at, b.batch_id\n    limit 1\n    for update skip locked;\n    return',
    ),
    testFile: LEASE_TEST,
    test: 'a lease that has run out is taken over, with everything that is in the batch',
  },
  {
    name: 'what lies behind the progress is never looked at again',
    promise: 2,
    edits: one(
      PASS,
      '  v_whole := p_whole\n    or v_by_time\n    or not',
      '  v_whole := p_whole\n    or false and not',
    ),
    testFile: FLAGGING_TEST,
    test: 'finds what was committed late, behind the point that earlier passes had reached',
  },
  {
    name: 'a pass that hit its limit is the last of the day',
    promise: 2,
    edits: one(
      TICK,
      '  if v_beat.more\n    or v_beat.passed_at is null\n',
      '  if v_beat.passed_at is null\n',
    ),
    testFile: FLAGGING_TEST,
    test: 'comes with the next tick when the last one hit its limit',
  },
  {
    name: 'a full notification queue fails a stamp',
    promise: 2,
    edits: one(
      ANNOUNCE,
      '  v_batch record;\nbegin\n  if pg_notification_queue_usage() > 0.5 then',
      '  v_batch record;\nbegin\n  if pg_notification_queue_usage() > 2 then',
    ),
    testFile: 'test/system/bad-days-queue.test.ts',
    test: 'really full: nothing is announced, the work goes on, and it is said everywhere',
  },
  {
    name: 'what the reply did not name is lost',
    promise: 2,
    edits: one(FAILURES, '    left join (\n', '    join (\n'),
    testFile: SETTLE_TEST,
    test: 'promise 3: a key that the reply did not name was not deleted, and is tried again',
  },
  {
    name: 'a batch that is split loses a result',
    promise: 2,
    edits: one(
      SETTLE,
      'v_batch.run_ids[1:v_half], v_batch.keys[1:v_half], v_batch.tenants[1:v_half]\n',
      'v_batch.run_ids[2:v_half], v_batch.keys[2:v_half], v_batch.tenants[2:v_half]\n',
    ),
    testFile: LEASE_TEST,
    test: 'a batch that is split becomes two that hold everything',
  },
  {
    name: 'what is spared takes those after it along',
    promise: 2,
    edits: one(
      APART,
      'p_batch.run_ids[:v_place - 1] || p_batch.run_ids[v_place + 1:];',
      'p_batch.run_ids[:v_place - 1];',
    ),
    testFile: CLAIM_TEST,
    test: 'of a batch, only what is no longer due is spared',
  },
  {
    name: 'rows that point elsewhere are stamped',
    promise: 3,
    edits: stamping(/r\.key operator\(pg_catalog\.=\) .*\n +and (?=coalesce)/u),
    testFile: SETTLE_TEST,
    test: ['promise 3: a run that %s is not stamped', 'points at another key by now'],
  },
  {
    name: 'rows that point at another bucket are stamped',
    promise: 3,
    edits: stamping(/        and coalesce\(.*\n.*p_bucket\n/u),
    testFile: SETTLE_TEST,
    test: ['promise 3: a run that %s is not stamped', 'points at another bucket by now'],
  },
  {
    name: 'another life of a run than the flagged one goes',
    promise: 1,
    edits: one(
      CHECK,
      'select bool_or(r.run_id = e.run_id and r.completed_at between p_batch.oldest and p_batch.newest)\n' +
        '        and bool_and(r.is_due) as may_go',
      'select bool_or(r.run_id = e.run_id)\n        and bool_and(r.is_due) as may_go',
    ),
    testFile: 'test/database/claim.test.ts',
    test: [
      SPARED,
      'it completed at another time than when it was flagged, though past its retention as well',
    ],
  },
  {
    name: 'the stamp reaches a run that completed again',
    promise: 3,
    edits: stamping('        and r.completed_at operator(pg_catalog.<=) p_newest\n'),
    testFile: SETTLE_TEST,
    test: ['promise 3: a run that %s is not stamped', 'has completed again by now'],
  },
  {
    name: 'a key stamps whoever points at it',
    promise: 3,
    edits: stamping('r.run_id operator(pg_catalog.=) g.run_id\n      and (', '('),
    testFile: SETTLE_TEST,
    test: 'promise 3: another run on the same object is not stamped with it',
  },
  {
    name: 'what was not asked for in this batch is stamped',
    promise: 3,
    edits: one(
      SETTLE,
      '    from unnest(v_batch.run_ids, v_batch.keys, v_batch.tenants, v_batch.etags) with ordinality',
      '    from retention.batch o\n' +
        '    cross join unnest(o.run_ids, o.keys, o.tenants, o.etags) with ordinality',
    ),
    testFile: SETTLE_TEST,
    test: 'promise 3: a run of another batch, or of none, cannot be stamped',
  },
  {
    name: 'what S3 did not name is stamped with the others',
    promise: 3,
    edits: one(
      SETTLE,
      '    where (retention._unpack_key(u.key, u.run_id::text) collate "C" in (select unnest(p_cleared) collate "C")) is true;\n',
      '    where cardinality(p_cleared) > 0;\n',
    ),
    testFile: SETTLE_TEST,
    test: 'promise 3: a key that the reply did not name was not deleted, and is tried again',
  },
  {
    name: 'a settled batch keeps what it did not clear',
    promise: 3,
    edits: one(
      SETTLE,
      'if v_done.results - cardinality(v_stamps.left_out) < v_batch.results then',
      'if false then',
    ),
    testFile: BATCHES_TEST,
    test: 'of exactly the runs and keys that were cleared',
  },
  {
    name: 'a key that holds the mark of an id is packed like any other',
    promise: 3,
    edits: one(
      WORDS,
      String.raw`when strpos(p_key, E'\x01') > 0 or starts_with(p_key, E'\x02')`,
      String.raw`when starts_with(p_key, E'\x02')`,
    ),
    testFile: BATCHES_TEST,
    test: 'gives back the key that it was made of, whatever that and the run id are',
  },
  {
    name: 'a key that begins with the mark of a whole one is packed like any other',
    promise: 3,
    edits: one(WORDS, String.raw` or starts_with(p_key, E'\x02') or`, ' or'),
    testFile: BATCHES_TEST,
    test: 'gives back the key that it was made of, whatever that and the run id are',
  },
  {
    name: 'a key that was kept whole is given with its mark',
    promise: 3,
    edits: one(WORDS, 'then substr(p_packed, 2)', 'then p_packed'),
    testFile: BATCHES_TEST,
    test: 'gives back the key that it was made of, whatever that and the run id are',
  },
  {
    name: 'rows are deleted',
    promise: 4,
    edits: one(
      STAMP,
      '  get diagnostics v_stamped = row_count;\n',
      '  get diagnostics v_stamped = row_count;\n' +
        '  delete from retention.result r where r.run_id = any (p_run_ids);\n',
    ),
    testFile: SETTLE_TEST,
    test: 'promise 3 and 4: stamps what was deleted, moves updated_at with it, and touches no other row',
  },
  {
    name: 'another column is written',
    promise: 4,
    edits: one(
      STAMP,
      'set cleared_at = pg_catalog.now(),\n',
      "set cleared_at = pg_catalog.now(),\n      status = 'GONE',\n",
    ),
    testFile: SETTLE_TEST,
    test: 'leaves every other column as it was',
  },
  {
    name: 'a failure is final',
    promise: 6,
    edits: one(FAILURES, 'p_batch.attempts + 1 >= p_max_attempts or', 'true or'),
    testFile: SETTLE_TEST,
    test: 'promise 6: what was refused waits, and the others of its batch are cleared',
  },
  {
    name: 'a failure is never final',
    promise: 6,
    edits: one(FAILURES, 'p_batch.attempts + 1 >= p_max_attempts or', 'false or'),
    testFile: SETTLE_TEST,
    test: 'promise 6: pauses between attempts grow up to a cap, and the tenth failure is the last',
  },
  {
    name: 'what cannot help is tried again',
    promise: 6,
    edits: one(FAILURES, 'p_max_attempts or coalesce(f.final, false)', 'p_max_attempts'),
    testFile: SETTLE_TEST,
    test: 'what trying again cannot help is dead at once',
  },
  {
    name: 'a batch is not cut to what the store takes',
    promise: 6,
    edits: one(
      'migrations/functions/09_claim.sql',
      'if v_before.results > v_most then',
      'if false then',
    ),
    testFile: 'test/database/buckets.test.ts',
    test: 'gets batches of so many, in the order in which they were flagged',
  },
  {
    name: 'what is learned is believed for ever',
    promise: 6,
    edits: one(
      'migrations/functions/08_buckets.sql',
      "where (l.value ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'",
      'where true',
    ),
    testFile: 'test/database/buckets.test.ts',
    test: 'is forgotten after a day',
  },
  {
    name: 'missing objects halt nothing',
    promise: 3,
    edits: one('migrations/functions/05_gate.sql', 'where k.missing * 2 > k.looked', 'where false'),
    testFile: 'test/database/buckets.test.ts',
    test: 'that finds most objects missing halts everything until a person says so',
  },
  {
    name: 'what the store cannot delete is tried for ever',
    promise: 6,
    edits: one(FAILURES, 'and p_batch.postponed >= 19', 'and false'),
    testFile: 'test/database/buckets.test.ts',
    test: 'for one of them for a day, while others go, bury it as what the store cannot',
  },
  {
    name: 'pauses do not grow',
    promise: 6,
    edits: one(WORDS, 'p_base * power(2, least(p_tries, 30))', 'p_base'),
    testFile: SETTLE_TEST,
    test: 'promise 6: pauses between attempts grow up to a cap, and the tenth failure is the last',
  },
  {
    name: 'throttles count against a result',
    promise: 6,
    edits: one(
      FAILURES,
      "coalesce(f.outcome = 'refused', false) as counted",
      'f.outcome is not null as counted',
    ),
    testFile: SETTLE_TEST,
    test: 'what was throttled or timed out is not counted against a result',
  },
  {
    name: 'what has no place ends the pass',
    promise: 6,
    edits: one(FLAG, ' and r.has_place and r.run_id is not null as may_go', ' as may_go'),
    testFile: FLAGGING_TEST,
    test: 'counts what has no place, names the first ten, and is not stopped by it',
  },
  {
    name: 'a paused bucket is not passed by',
    promise: 6,
    edits: one(NEXT, 'or k.paused_until <= clock_timestamp())\n      and', 'or true)\n      and'),
    testFile: LEASE_TEST,
    test: 'are passed by while their bucket is paused, and no other is',
  },
  {
    name: 'a bucket that is gone does not pause',
    promise: 6,
    edits: one(SETTLE, 'if v_refusal.concerns_bucket or v_in_row > 1 then', 'if false then'),
    testFile: SETTLE_TEST,
    test: 'a bucket that is gone pauses at once; one that refuses everything, the second time',
  },
  {
    name: 'one key that is refused pauses its bucket',
    promise: 6,
    edits: one(
      SETTLE,
      '    or p_batch.results = 1 and not coalesce(v_refusal.concerns_bucket, false)\n',
      '',
    ),
    testFile: SETTLE_TEST,
    test: 'a single key that is refused says nothing about its bucket',
  },
  {
    name: 'flagging keeps writers out of the table',
    promise: 7,
    edits: one(
      PASS,
      '  select * into strict v_beat from retention.heartbeat;',
      '  lock table retention.result in share row exclusive mode;\n  select * into strict v_beat from retention.heartbeat;',
    ),
    testFile: FLAGGING_TEST,
    test: "takes no lock on the application's table that its writers would notice",
  },
  {
    name: 'a claim locks rows of the table',
    promise: 7,
    edits: one(
      CLAIM,
      '  select * into strict v_before from retention.batch b where b.batch_id = v_batch_id;\n',
      '  select * into strict v_before from retention.batch b where b.batch_id = v_batch_id;\n' +
        '  perform from retention.result r where r.run_id = any (v_before.run_ids) for update;\n',
    ),
    testFile: 'test/database/locks.test.ts',
    test: 'claiming waits for no writer, not even for one that keeps all others out',
  },
  {
    name: 'settling keeps writers out of the table',
    promise: 7,
    edits: one(
      SETTLE,
      '  if p_all then\n',
      "  set local lock_timeout = '3s';\n" +
        '  lock table retention.result in share row exclusive mode;\n  if p_all then\n',
    ),
    testFile: 'test/database/locks.test.ts',
    test: 'settling stands in the way of no other row, and leaves no lock behind',
  },
  {
    name: 'settle is not fenced by the lease',
    promise: 8,
    edits: one(
      SETTLE,
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
      SETTLE,
      '    and b.lease = p_lease\n  for update;\n  if not found then\n    -- Asked',
      '  for update;\n  if not found then\n    -- Asked',
    ),
    testFile: LEASE_TEST,
    test: FENCED,
  },
  {
    name: 'split is not fenced by the lease',
    promise: 8,
    edits: one(SETTLE, '    and b.lease = p_lease\n    and b.results > 1', '    and b.results > 1'),
    testFile: LEASE_TEST,
    test: FENCED,
  },
  {
    name: 'a claim does not heed a valid lease',
    promise: 8,
    edits: one(
      CLAIM,
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
      NEXT,
      '    limit 1\n    for update skip locked;\n    return',
      '    limit 1;\n    return',
    ),
    testFile: LEASE_TEST,
    test: 'listeners that claim at the same time get a batch each',
  },
  {
    name: 'what is flagged is flagged a second time',
    promise: 8,
    edits: one(
      FLAG,
      'not s.is_late and s.may_go and not s.is_shared and s.run_id not in (select f.run_id from flagged f)',
      'not s.is_late and s.may_go and not s.is_shared',
    ),
    testFile: FLAGGING_TEST,
    test: 'writes results of no date down once, however often it comes',
  },
  {
    name: 'the role may write the view',
    promise: 10,
    edits: one(
      RIGHTS,
      '  end loop;\nend\n',
      "  end loop;\n  execute format('grant update on retention.result to %I', v_role);\nend\n",
    ),
    testFile: 'test/database/rights.test.ts',
    test: ["cannot change the view's column %s", 'key'],
  },
  {
    name: 'the role may call what is internal',
    promise: 10,
    edits: one(
      RIGHTS,
      "prorettype = 'trigger'::regtype then null",
      "prorettype = 'trigger'::regtype then 'listener'",
    ),
    testFile: LISTED_TEST,
    test: 'what is internal, nobody may call',
  },
  {
    name: 'everybody may call everything',
    promise: 10,
    edits: one(RIGHTS, '  revoke all on all functions in schema retention from public;\n', ''),
    testFile: LISTED_TEST,
    test: 'a stranger may nothing, and PUBLIC neither',
  },
  {
    name: "a function runs as its owner under the caller's path",
    promise: 10,
    edits: one(
      HOLD,
      'returns boolean\nlanguage plpgsql\nsecurity definer\nset search_path = pg_catalog, pg_temp\nset lock',
      'returns boolean\nlanguage plpgsql\nsecurity definer\nset lock',
    ),
    testFile: 'test/database/security-search-path.test.ts',
    test: ['%s runs none of them', 'release_hold'],
  },
  {
    name: 'a view reads a text under the path of who asks',
    promise: 10,
    edits: one(
      WORDS,
      'return (hashtextextended(p_run_id, 0::bigint) & 65535::bigint)::double precision / 65536::double precision;',
      'as $$ select (hashtextextended(p_run_id, 0) & 65535) / 65536.0::double precision $$;',
    ),
    testFile: 'test/database/security-search-path.test.ts',
    test: "an operator's own session, with the usual path, runs none of them either",
  },
  {
    name: 'flagging reads the whole table',
    promise: 11,
    edits: one(DUE, PAST, PAST.replace('      and r.is_candidate\n', '')),
    testFile: 'test/database/cost.test.ts',
    test: ['a pass reads what is newly due, and not %s', 'results of another tenant'],
  },
  {
    name: 'flagging reads what is not due yet',
    promise: 11,
    edits: one(DUE, PAST, PAST.replace('r.completed_at <', "r.completed_at + interval '0' <")),
    testFile: 'test/database/cost.test.ts',
    test: ['a pass reads what is newly due, and not %s', 'results that are not due'],
  },
  {
    name: 'a key is kept with its id',
    promise: 11,
    edits: one(WORDS, String.raw`  else replace(p_key, p_run_id, E'\x01')`, '  else p_key'),
    testFile: BATCHES_TEST,
    test: 'of a run id in the key is short',
  },
  {
    name: 'a claim reads the whole table',
    promise: 11,
    edits: one(CHECK, LOOKED_UP, LOOKED_UP.replace('r.key_hash =', 'r.key_hash + 0 =')),
    testFile: 'test/database/cost.test.ts',
    test: 'a claim reads what is in its batch',
  },
  {
    name: 'the index over live results holds more than finds them',
    promise: 11,
    edits: one(
      'migrations/functions/03_adoption.sql',
      "concat_ws(', ', n.tenant_id, n.completed_at)",
      "concat_ws(', ', n.tenant_id, n.completed_at, 'run_id')",
    ),
    testFile: FOOTPRINT_TEST,
    test: 'the indexes on the application’s table take at most 70 bytes a live row',
  },
  {
    name: 'every pass starts from the oldest',
    promise: 11,
    edits: one(PASS, '  v_whole := p_whole\n', '  v_whole := true or p_whole\n'),
    testFile: FLAGGING_TEST,
    test: 'goes on from where it stopped while much lies behind',
  },
  {
    name: 'what was asked is counted as stamped',
    promise: 12,
    edits: one(SETTLE, '    stamped = v_stamps.stamped,\n', '    stamped = v_done.results,\n'),
    testFile: SETTLE_TEST,
    test: ['promise 3: a run that %s is not stamped', 'points at another key by now'],
  },
  {
    name: 'what came late is not counted',
    promise: 12,
    edits: one(OUTLOOK, 'and t.seen_completed_at is not null', 'and false'),
    testFile: OUTLOOK_TEST,
    test: '700 old rows imported after the last pass are due at once, and since when',
  },
  {
    name: 'what is flagged is counted as due once more',
    promise: 12,
    edits: one(OUTLOOK, 'and j.run_id not in (select unnest(k.run_ids) from known k)', 'and true'),
    testFile: OUTLOOK_TEST,
    test: 'what is flagged is counted once, on both sides of the progress',
  },
  {
    name: 'a count that stopped at its bound does not say "at least"',
    promise: 12,
    edits: one(
      OUTLOOK,
      '      or exists (\n        select\n        from wanting w',
      '      or false and exists (\n        select\n        from wanting w',
    ),
    testFile: OUTLOOK_TEST,
    test: 'more than it looks at: "at least", also of a small tenant behind a large one',
  },
  {
    name: 'a next pass is promised while no tick comes',
    promise: 12,
    edits: one(
      OUTLOOK,
      "s.ticked_at < now() - interval '5 minutes'",
      "s.ticked_at < now() - interval '5 years'",
    ),
    testFile: OUTLOOK_TEST,
    test: ['no pass comes by itself while %s, and it says so', 'the ticks have stopped'],
  },
  {
    name: 'with many tenants, those of which something falls due are not looked at first',
    promise: 12,
    edits: one(WATCHED, 'order by a.due_at limit p_most / 2', 'order by a.due_at limit 0'),
    testFile: STATUS_COST_TEST,
    test: 'with more tenants than it looks at, it says "at least", and sees of whom something falls due next',
  },
  {
    name: 'a status compares what it sees with all that is flagged',
    promise: 11,
    edits: [
      {
        file: WATCHED,
        search: '        and b.newest >= p_from\n      order by b.oldest\n      limit 6',
        replace: '        and b.newest >= p_from\n      order by b.oldest',
      },
      { file: WATCHED, search: 'case when o.place <= 5 then', replace: 'case when true then' },
    ],
    testFile: STATUS_COST_TEST,
    test: 'a page for some open batches, whatever they carry, and none for receipts of years',
  },
];
