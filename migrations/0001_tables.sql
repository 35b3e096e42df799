-- Up Migration

/*
Retention Reactor: the safe, fast expiry of S3 objects whose truth lives here.

The application keeps each finished run as a row and the run's result as an S3
object. After the retention period the object must go and the row must stay,
stamped with when its result went. This schema decides which results are due,
writes them down as work, hands the work out under leases, and stamps the rows
once S3 has named the keys as deleted. The listener (a separate process) does
nothing but claim, call S3, and settle.

    tick --> flag_expired --> batch --> claim --> [S3] --> settle
                                |                            |
                                +--- NOTIFY retention_expired +--- stamp, NOTIFY retention_cleared

setting        one row: what operators choose for the whole database
adapter        one row: which table was adopted, and how its columns are called
installed      one row: which files of functions/ the schema was last given
identity       one row: which server, database and timeline the schema was adopted in, or accepted for
fence          one row: the tokens of the object in S3 that tells a copy of this database
policy         how long results are kept: '*' for everybody, or by tenant
hold           what must not be deleted, by run or by tenant, and why
approval       what one person has asked for and another must approve
held_object    the objects that a hold found: it covers them also when their rows have gone
orphan_list    one row for each list of orphans: when it was made, and what was deleted by it
bucket         what is known and wanted of each bucket
variable       by setting, what processes brought as variables, and when a person last set it
heartbeat      one row: when the scheduler was last alive, and what the last pass left
gate_state     one row: the reasons to stand still that were last announced
pass_lock      one row, locked by a flagging pass: one at a time
stamping       one row: whether stamps work, and how many are written in time
progress       by tenant, the last result that flagging has looked at
ahead          by tenant, when the first result falls due that no pass has looked at
surge          one row for each time that late results were set aside
surge_part     late results that are set aside, packed as in a batch; no work until released
surge_release  who released how many results of a surge
lateness       by tenant and walk, how many results were late: what the guards count over 24 hours
allowance      how many late results of a tenant a person has accounted for: a policy, a hold's end
scan           one row per flagging pass that did something
batch          the unit of work and, once settled, the receipt: one bucket, at most 1,000
               results, one DeleteObjects request, one lease. It carries its results
               in arrays; there is no row per result anywhere
past_work      what batches were before: results that left them uncleared, and attempts that came to nothing
unanswered     requests that S3 may still perform after their sender has stopped waiting
shared_object  objects that a run which is not due still needs: no other run's result on them is flagged
keeper         other tables of the application whose rows need objects too
spared_object  objects that were spared for a keeper, or since S3 holds another version: not flagged for a time
cutoff         one row for each reconcile that deletes earlier than the policy, while it lives
selection      what a narrowed reconcile works with; empty between calls
stray          what a verify has set aside; empty between runs
key_copy       the order of keys that a verify works with; empty between runs
key_stretch    a thousand keys of such a copy, in their order, and the runs that they are of
canary         by bucket, the object of our own that shows whether deletions work
verify_run     one row for each bucket that a verify is at: what it looks at, and who works on it
verify_part    the parts that such a bucket is listed in, and how far each was compared
verify_stretch results whose key was not listed, until they are confirmed by a second look
verify_listed  what a listing out of order or an inventory named, so that it can be read in order
standing_verify  by bucket, how far the verify that listeners are at all the time has come, and the drift that it found
standing_gone  live rows of which it has found that their object is gone
receipt        receipts of what happens outside a batch: stamps by verify, stamps taken away, orphans
returned_result  results whose object is back, since their stamp was taken away: their next receipt says so
stamp_account  what the last count of stamps and receipts against each other has found
attention      what was announced of late that a person should know at once
webhook        by kind, the message to the webhook that is being sent, and when the next one may be

What is kept is made here and by 0002_adopt. What is done (functions, views,
triggers, rights) stands in the files of functions/ as it is today: 0003_functions installs
it, and so does `retention migrate up` whenever something of it is missing.

The application's table is only ever seen through the view retention.result.
NOTIFY is a hint for people and programs that watch; these tables are the truth.
*/

create schema if not exists retention;

comment on schema retention is
  'Retention Reactor: expiry of S3 results whose truth lives in this database';

-- The types of the application's own ids. 0002_adopt gives them the types of its columns.
create domain retention.run_id as text;
create domain retention.tenant_id as text;

create table retention.setting (
  singleton boolean primary key default true
    constraint there_is_one_setting_row check (singleton),
  enabled boolean not null default true,
  halted_at timestamptz,
  halted_by text,
  halted_reason text,
  halted_session text,
  loop_interval interval not null default '1 day'
    constraint loop_interval_is_at_least_a_second check (loop_interval >= '1 second'),
  batch_size integer not null default 1000
    constraint a_batch_fits_one_delete_objects_request check (batch_size between 1 and 1000),
  flag_limit integer not null default 50000
    constraint flag_limit_is_positive check (flag_limit > 0),
  backlog_limit integer not null default 1000000
    constraint backlog_limit_is_positive check (backlog_limit > 0),
  sweep_interval interval not null default '1 hour',
  small_backlog integer not null default 5000
    constraint small_backlog_is_not_negative check (small_backlog >= 0),
  max_attempts integer not null default 10
    constraint max_attempts_is_positive check (max_attempts > 0),
  retry_base interval not null default '30 seconds',
  retry_cap interval not null default '6 hours',
  pause_base interval not null default '2 seconds',
  pause_cap interval not null default '5 minutes',
  history_kept interval not null default '7 days',
  receipts_kept interval not null default '7 years'
    constraint receipts_are_kept_for_a_day_at_least check (receipts_kept >= '1 day'),
  receipt_keys text not null default 'plain'
    constraint receipt_keys_are_plain_or_hashed check (receipt_keys in ('plain', 'hashed')),
  default_bucket text
    constraint default_bucket_is_not_empty check (default_bucket <> ''),
  check_shared_objects boolean not null default true,
  policy_guard integer not null default 1000
    constraint policy_guard_is_not_negative check (policy_guard >= 0),
  surge_guard integer default 1000
    constraint surge_guard_is_not_negative check (surge_guard >= 0),
  surge_guard_all integer not null default 10000
    constraint surge_guard_all_is_not_negative check (surge_guard_all >= 0),
  cool_off interval
    constraint cool_off_is_not_negative check (cool_off >= '0'),
  four_eyes boolean not null default false,
  release_spread interval not null default '1 hour',
  unanswered_for interval not null default '15 minutes'
    constraint unanswered_for_is_not_negative check (unanswered_for >= '0'),
  constraint a_halt_says_who_and_why check (num_nonnulls(halted_at, halted_by, halted_reason) in (0, 3))
);

comment on table retention.setting is
  'one row: what operators choose for the whole database';
comment on column retention.setting.enabled is
  'false: nothing is flagged and nothing is claimed; status, dry runs and holds work';
comment on column retention.setting.halted_at is
  'since when a person has halted everything (retention.halt); null: there is no halt';
comment on column retention.setting.batch_size is
  'results per batch, and so keys per DeleteObjects request';
comment on column retention.setting.flag_limit is
  'how many results one pass looks at, at most; the next tick goes on';
comment on column retention.setting.backlog_limit is
  'with this many flagged results waiting, no pass flags more';
comment on column retention.setting.max_attempts is
  'a result that S3 has refused this often is dead';
comment on column retention.setting.retry_base is
  'how long a refused result waits for its second attempt; each wait doubles';
comment on column retention.setting.retry_cap is
  'the longest wait between two attempts';
comment on column retention.setting.pause_base is
  'how long a bucket pauses for the first time; each pause doubles';
comment on column retention.setting.pause_cap is
  'the longest pause of a bucket';
comment on column retention.setting.loop_interval is
  'how often a tick flags; the tick itself comes every minute';
comment on column retention.setting.sweep_interval is
  'how often, at least, a pass starts from the oldest result again instead of going on from its progress';
comment on column retention.setting.small_backlog is
  'with no more than this many results behind its progress, every pass starts from the oldest';
comment on column retention.setting.history_kept is
  'how long passes, and batches that cleared nothing, are remembered';
comment on column retention.setting.receipts_kept is
  'how long a batch that cleared something is kept as its receipt';
comment on column retention.setting.receipt_keys is
  'plain: receipts keep keys as they are; hashed: from their seal on, a salted digest of each, and no receipt before is changed';
comment on column retention.setting.default_bucket is
  'the bucket of results whose row names none';
comment on column retention.setting.policy_guard is
  'a policy that makes more live results than this due at once waits for a confirmation';
comment on column retention.setting.surge_guard is
  'with more late results of a tenant than this in 24 hours, they are set aside as a surge; null: there is no guard';
comment on column retention.setting.surge_guard_all is
  'the same over all tenants together';
comment on column retention.setting.cool_off is
  'how long a flagged result waits before it may be claimed; null: not at all';
comment on column retention.setting.four_eyes is
  'true: what deletes more or earlier needs two people, one who asks and another who approves';
comment on column retention.setting.release_spread is
  'over how long the results of a tenant come back after a hold on it has ended';
comment on column retention.setting.unanswered_for is
  'how long S3 may still perform a request that got no answer: it takes none whose signature is older than 15 minutes';
comment on column retention.setting.check_shared_objects is
  'false gives up: two runs on one key, one due and one not, lose the object';

insert into retention.setting default values;

create table retention.adapter (
  singleton boolean primary key default true
    constraint there_is_one_adapter_row check (singleton),
  table_name text not null,
  table_oid oid not null,
  columns jsonb not null,
  added_cleared_at boolean not null,
  scheduler text not null
    constraint scheduler_is_known check (scheduler in ('pg_cron', 'internal')),
  cron_database text,
  cron_job_owner text,
  listener_role text,
  operator_role text,
  observer_role text,
  reader_roles text[] not null default '{}',
  application_path text,
  detached_at timestamptz,
  index_marks text[]
);

comment on table retention.adapter is
  'one row: which table was adopted, and how its columns are called';
comment on column retention.adapter.table_oid is
  'the table under the view retention.result; another table of that name is not worked on';
comment on column retention.adapter.application_path is
  'the search path under which the application''s triggers run when a row is stamped; first that of the session that migrated';
comment on column retention.adapter.index_marks is
  'the comments by which our indexes on that table are known: of retention_live, then of retention_key';
comment on column retention.adapter.reader_roles is
  'roles of applications that may ask which results can be read, and nothing else';
comment on column retention.adapter.detached_at is
  'since when retention.detach has taken the views away; null: they are there';

create table retention.installed (
  singleton boolean primary key default true
    constraint there_is_one_installed_row check (singleton),
  version text not null,
  shipped text not null,
  found text not null,
  at timestamptz not null default now()
);

comment on table retention.installed is
  'what functions/*.sql the schema was last given (shipped), and a digest of what the catalog held then (found)';

create table retention.identity (
  singleton boolean primary key default true
    constraint there_is_one_identity_row check (singleton),
  fence uuid not null default gen_random_uuid(),
  system_identifier text,
  database_oid oid not null,
  database_name text not null,
  timeline integer,
  adopted_at timestamptz not null default now(),
  accepted_at timestamptz,
  accepted_by text,
  accepted_reason text
);

comment on table retention.identity is
  'one row: which server, database and timeline the schema was adopted in, or accepted for; another one is a copy';
comment on column retention.identity.fence is
  'the name of the fence: copies of this database share it, and other platforms do not';
comment on column retention.identity.system_identifier is
  'of pg_control_system(); null: the server does not tell it';
comment on column retention.identity.database_oid is
  'not the name: a renamed database is no copy';
comment on column retention.identity.timeline is
  'of the write-ahead log: a promotion and a recovery to a point in time begin another; null: the server does not tell it';
comment on column retention.identity.accepted_by is
  'the session''s user who said that this is the database that deletes; null: it was adopted here';

-- Apart from the identity, which is read at every claim: this row is written twice a minute.
create table retention.fence (
  singleton boolean primary key default true
    constraint there_is_one_fence_row check (singleton),
  tokens uuid[] not null default '{}',
  newest bigint not null default 0,
  tried_at timestamptz,
  renewed_at timestamptz,
  renewed_by text,
  bucket text,
  taking boolean not null default false,
  lost_at timestamptz,
  lost_because text,
  constraint a_lost_fence_says_why check ((lost_at is null) = (lost_because is null))
) with (fillfactor = 20);

comment on table retention.fence is
  'one row: the tokens that were written to the fence in S3; a token there that is none of them is of a copy';
comment on column retention.fence.tokens is
  'the last 20, newest first; each is written here before it is written to S3';
comment on column retention.fence.newest is
  'the number of tokens[1]; they are counted from 1';
comment on column retention.fence.renewed_at is
  'when the fence in S3 was last renewed from here; null: it never was, and is not asked for';
comment on column retention.fence.taking is
  'retention.accept_fence() was called: the next look takes the fence in S3 from any other database';
comment on column retention.fence.lost_at is
  'since when another database has the fence: the gate is closed until retention.accept_fence()';

insert into retention.fence default values;

create table retention.policy (
  tenant_id text primary key,
  retain interval not null
    constraint retain_is_at_least_one_day check (retain >= '1 day')
    constraint retain_is_below_a_century check (retain <= '36160 days'),
  set_at timestamptz not null default now(),
  set_by text not null default session_user,
  pending_retain interval
    constraint a_pending_policy_is_at_least_one_day check (pending_retain >= '1 day'),
  pending_results bigint,
  pending_at timestamptz,
  pending_by text,
  confirmed_results bigint,
  confirmed_at timestamptz,
  confirmed_by text,
  constraint a_pending_policy_is_whole check (
    num_nonnulls(pending_retain, pending_results, pending_at, pending_by) in (0, 4)
  )
);

comment on table retention.policy is
  'how long a result is kept after its run completed; ''*'' is the default';
comment on column retention.policy.pending_retain is
  'asked for, but it would make so many results due at once that it waits for confirm_policy';

insert into retention.policy (tenant_id, retain)
values ('*', '30 days');

-- For the fence, which carries the newest of them twice a minute.

create table retention.hold (
  hold_id bigint generated always as identity primary key,
  run_id retention.run_id,
  tenant_id text,
  reason text not null
    constraint a_hold_has_a_reason check (btrim(reason) <> ''),
  placed_by text not null default session_user,
  placed_at timestamptz not null default now(),
  expires_at timestamptz,
  released_at timestamptz,
  released_by text,
  placed_session text not null default session_user,
  released_session text,
  bucket text,
  key text collate "C",
  objects bigint not null default 0,
  due_before bigint,
  retain interval,
  constraint a_hold_is_on_a_run_or_a_tenant check (num_nonnulls(run_id, tenant_id) = 1),
  constraint a_released_hold_says_by_whom check ((released_at is null) = (released_by is null))
);

comment on table retention.hold is
  'what must not be deleted; place with retention.place_hold, which knows what is in flight';
comment on column retention.hold.placed_session is
  'the session''s user beside the name in placed_by, which anybody may type; so is released_session';

create table retention.approval (
  approval_id bigint generated always as identity primary key,
  kind text not null
    constraint approval_kind_is_known check (
      kind in ('policy', 'early', 'surge', 'hold', 'orphans', 'purge', 'setting', 'fence', 'keeper')
    ),
  what jsonb not null
    constraint what_is_asked_is_an_object check (jsonb_typeof(what) = 'object'),
  results bigint,
  asked_by text not null default session_user,
  asked_at timestamptz not null default clock_timestamp(),
  approved_by text,
  approved_at timestamptz,
  used_at timestamptz,
  used_in xid8,
  withdrawn_at timestamptz,
  withdrawn_by text,
  constraint nobody_approves_their_own_request check (approved_by <> asked_by),
  constraint an_approval_says_by_whom check ((approved_at is null) = (approved_by is null)),
  constraint a_withdrawal_says_by_whom check ((withdrawn_at is null) = (withdrawn_by is null)),
  constraint only_what_was_approved_is_used check (used_at is null or approved_at is not null)
);

comment on table retention.approval is
  'where setting.four_eyes asks for two people: what one has asked for, and another has approved';
comment on column retention.approval.what is
  'exactly what is asked: another number or another name is another act';
comment on column retention.approval.results is
  'of a policy: how many live results it would have made due when it was asked for';
comment on column retention.approval.asked_by is
  'the session''s user, whatever role it has set; so is approved_by';
comment on column retention.approval.used_at is
  'when it was done; an approval serves once';

comment on column retention.hold.bucket is
  'of a hold on a run: where its object was when the hold was placed, or first named one; null: none is named yet';
comment on column retention.hold.due_before is
  'of a hold on a tenant: how many of its results were due by retain when it was placed, and not set aside; null: not counted';
comment on column retention.hold.objects is
  'how many objects it covers also when their rows have gone: see retention.held_object';

-- By object, for a claim asks for each of its keys. Without a foreign key: it is written before its hold.
create table retention.held_object (
  bucket text not null,
  key text collate "C" not null,
  hold_id bigint not null,
  primary key (bucket, key, hold_id)
);

comment on table retention.held_object is
  'the objects that a hold found: it covers them also when their rows have gone';

create table retention.bucket (
  bucket text primary key,
  on_versioned text not null default 'marker'
    constraint on_versioned_is_known check (on_versioned in ('marker', 'purge')),
  versioning text
    constraint versioning_is_known check (versioning in ('off', 'enabled', 'suspended')),
  described_at timestamptz,
  paused_until timestamptz,
  pauses integer not null default 0,
  pause_code text,
  pause_error text,
  refused_in_row integer not null default 0,
  keys_per_request integer
    constraint a_request_has_1_to_1000_keys check (keys_per_request between 1 and 1000),
  deletes text
    constraint deletes_is_known check (deletes in ('together', 'singly')),
  checksum text
    constraint checksum_is_known check (checksum in ('crc32', 'md5', 'none')),
  addressing text
    constraint addressing_is_known check (addressing in ('path', 'virtual')),
  conditional text
    constraint conditional_is_known check (conditional in ('honoured', 'ignored')),
  set_at timestamptz,
  set_by text,
  learned jsonb not null default '{}'
    constraint what_is_learned_is_an_object check (jsonb_typeof(learned) = 'object'),
  looked_in text,
  looked_at timestamptz,
  looked integer not null default 0,
  missing integer not null default 0,
  missing_keys text[] not null default '{}',
  missing_confirmed_at timestamptz,
  missing_confirmed_by text,
  set_session text,
  missing_confirmed_session text,
  known_since timestamptz not null default now(),
  max_per_second integer
    constraint max_per_second_is_positive check (max_per_second > 0),
  max_in_flight integer
    constraint max_in_flight_is_positive check (max_in_flight > 0),
  constraint only_what_was_looked_at_is_missing check (missing between 0 and looked)
);

comment on table retention.bucket is
  'what is known and wanted of each bucket';

comment on column retention.bucket.on_versioned is
  'marker: a deletion in a versioned bucket adds a delete marker; purge: it takes every version';
comment on column retention.bucket.versioning is
  'what S3 said of it at described_at; null: it was not asked';
comment on column retention.bucket.paused_until is
  'no batch of it is claimed before then';
comment on column retention.bucket.pauses is
  'pauses since the last deletion that succeeded: what makes the next one longer';
comment on column retention.bucket.refused_in_row is
  'refusals since the last deletion that succeeded';
comment on column retention.bucket.keys_per_request is
  'set by a person, as deletes, checksum and addressing are; null: as learned, or as S3 does it';
comment on column retention.bucket.conditional is
  'set by a person: honoured: S3 is asked to delete the version of the row''s etag and no other; ignored: a person accepts that any version goes';
comment on column retention.bucket.learned is
  'what refusals and timeouts showed of its store, by habit: {"value", "at", "because"}; believed for a day';
comment on column retention.bucket.looked_in is
  'the store in which some of its keys were looked for before the first deletion';
comment on column retention.bucket.missing is
  'of the keys that were looked for, how many had no object; most of them: the gate is closed';
comment on column retention.bucket.missing_confirmed_at is
  'since when a person has said that the missing objects are really gone';
comment on column retention.bucket.max_per_second is
  'a ceiling: so many results of it go a second at most, by all listeners and commands together; null: no ceiling';
comment on column retention.bucket.max_in_flight is
  'a ceiling: so many of its batches are leased at once at most; null: no ceiling';

-- Beside the bucket and not in it: a claim keeps its row locked, and the others write what they learn of a bucket.
create table retention.pace (
  bucket text primary key,
  next_at timestamptz not null default '-infinity'
)
with (fillfactor = 50);

comment on table retention.pace is
  'when the next request of a bucket with a ceiling may go';

create table retention.variable (
  name text primary key
    constraint a_variable_names_a_setting check (name in ('enabled', 'retain', 'loop_interval', 'batch_size', 'default_bucket')),
  value text,
  brought_at timestamptz,
  brought text[] not null default '{}',
  applied_at timestamptz,
  returned_at timestamptz,
  set_at timestamptz,
  set_by text,
  constraint what_a_person_set_says_by_whom check ((set_at is null) = (set_by is null))
);

comment on table retention.variable is
  'by setting, what processes brought as variables when they started, and when a person last set it';
comment on column retention.variable.value is
  'what the last process that had the variable brought; null: none had it';
comment on column retention.variable.brought is
  'every value that a process has brought: one that came before is not applied again';
comment on column retention.variable.applied_at is
  'when a variable last changed the setting';
comment on column retention.variable.returned_at is
  'when a variable last switched on again what another had switched off: at most once in an hour';
comment on column retention.variable.set_at is
  'when a person last set it: by a function, a command or an update of the table';

create table retention.heartbeat (
  singleton boolean primary key default true
    constraint there_is_one_heartbeat_row check (singleton),
  ticked_at timestamptz,
  ticked_by text,
  passed_at timestamptz,
  more boolean not null default false,
  swept_at timestamptz,
  walk_began_at timestamptz,
  seen_at timestamptz,
  left_alone integer not null default 0,
  cleaned_up_at timestamptz,
  clean_up_problem text,
  pass_problem text
) with (fillfactor = 20);

comment on table retention.heartbeat is
  'one row: when the scheduler last ticked, and what the last pass left';
comment on column retention.heartbeat.more is
  'the last pass hit a limit: the next tick need not wait for the interval';
comment on column retention.heartbeat.swept_at is
  'when a pass last started from the oldest result';
comment on column retention.heartbeat.walk_began_at is
  'since when passes have been on their way from the oldest result to the newest; null: the last walk is complete';
comment on column retention.heartbeat.seen_at is
  'when the last complete walk began: what was due before then and is not known yet is late; null: there was none';
comment on column retention.heartbeat.left_alone is
  'results past their policy that passes since then went by: held, without a place, or under retain_until';

comment on column retention.heartbeat.clean_up_problem is
  'what the last cleaning up ran into: SQLSTATE and message; null: nothing';
comment on column retention.heartbeat.pass_problem is
  'why the last pass that a tick asked for failed: SQLSTATE and message; null: it did not';

insert into retention.heartbeat default values;

-- Apart from the heartbeat: a pass of minutes keeps no tick waiting.
create table retention.pass_lock (
  singleton boolean primary key default true
    constraint there_is_one_pass_lock_row check (singleton)
);

comment on table retention.pass_lock is
  'one row, locked by a flagging pass: one at a time';

insert into retention.pass_lock default values;

-- Apart from the heartbeat, whose row a flagging pass keeps locked: halting waits for no pass.
create table retention.gate_state (
  singleton boolean primary key default true
    constraint there_is_one_gate_state_row check (singleton),
  reasons text[] not null default '{}',
  since timestamptz not null default now(),
  clock_corrected_at timestamptz,
  clock_was_ahead interval
);

comment on table retention.gate_state is
  'one row: the reasons of retention.gate() that were last announced';
comment on column retention.gate_state.clock_corrected_at is
  'when something that lay further ahead than it can was last brought back: the clock had been wrong';

insert into retention.gate_state default values;

create table retention.stamping (
  singleton boolean primary key default true
    constraint there_is_one_stamping_row check (singleton),
  tried_for text,
  failed_since timestamptz,
  code text,
  message text,
  context text,
  tries integer not null default 0,
  try_at timestamptz,
  unknown_for text,
  unknown_at timestamptz,
  most integer
    constraint at_least_one_stamp_fits check (most > 0),
  constraint what_fails_has_a_code check ((failed_since is null) = (code is null))
);

comment on table retention.stamping is
  'one row: whether stamps work, and how many are written in time';
comment on column retention.stamping.tried_for is
  'the view and the installation that a trial last looked at; others want another trial';
comment on column retention.stamping.failed_since is
  'since when no row could be stamped: the gate is closed; null: it is not known that stamps fail';
comment on column retention.stamping.try_at is
  'when a single row is tried again';
comment on column retention.stamping.unknown_for is
  'the view and the installation of the trial of unknown_at';
comment on column retention.stamping.unknown_at is
  'when a trial last told nothing, because its rows were locked: a claim asks for the next one ten seconds later';
comment on column retention.stamping.most is
  'how many results are stamped in time, where the application''s triggers are slow; null: a whole batch is';

insert into retention.stamping default values;

create table retention.scan (
  scan_id bigint generated always as identity primary key,
  started_at timestamptz not null default now(),
  ms integer not null,
  asked_by text not null,
  looked_at integer not null,
  flagged integer not null,
  batches integer not null,
  without_place integer not null,
  without_place_run_ids text[] not null default '{}',
  skipped integer not null default 0,
  skipped_rows text[] not null default '{}',
  hit_limit boolean not null,
  oldest timestamptz,
  surge_id bigint,
  set_aside bigint not null default 0
);

comment on table retention.scan is
  'one row for each flagging pass that did something';
comment on column retention.scan.without_place is
  'due, but the row names no bucket or an empty key: not work, only counted';
comment on column retention.scan.skipped is
  'rows that cannot be flagged: no run id, a name that no store can hold, or an error when they are read';
comment on column retention.scan.skipped_rows is
  'the first ten of them, each with its reason';

comment on column retention.scan.surge_id is
  'the surge that it found; set_aside: with how many results';

-- What makes a pass cost what is newly due.
create table retention.progress (
  tenant_key text primary key,
  completed_at timestamptz not null,
  run_id retention.run_id
);

comment on table retention.progress is
  'by tenant, the last result that flagging has looked at';
comment on column retention.progress.tenant_key is
  'see retention._tenant_key(): the empty string stands for results without a tenant';
comment on column retention.progress.run_id is
  'null: every row that completed at that moment has been looked at';

-- What makes a look at how things stand cost the same with 20,000 tenants as with 20.
create table retention.ahead (
  tenant_key text primary key,
  due_at timestamptz not null
);

comment on table retention.ahead is
  'by tenant, when the first result falls due that no pass has looked at: which tenants a status looks at first';
comment on column retention.ahead.due_at is
  'by the policy of the pass that noted it';

create table retention.batch (
  batch_id bigint generated by default as identity primary key,
  bucket text not null,
  kind text
    constraint kind_is_known check (kind in ('canary')),
  results integer not null
    constraint a_batch_has_at_most_1000_results check (results between 0 and 1000),
  oldest timestamptz not null,
  newest timestamptz not null,
  due_since timestamptz,
  late_since timestamptz,
  early interval,
  flagged_at timestamptz not null default now(),
  visible_at timestamptz not null default now(),
  lease uuid,
  leased_at timestamptz,
  leased_by text,
  attempts integer not null default 0,
  postponed integer not null default 0,
  stuck_since timestamptz,
  code text,
  error text,
  failed_at timestamptz,
  dead_at timestamptz,
  deleted_at timestamptz,
  given_back uuid,
  cleared integer not null default 0,
  stamped integer not null default 0,
  spared integer not null default 0,
  failed integer not null default 0,
  dead integer not null default 0,
  problems jsonb,
  ms integer,
  settled_at timestamptz,
  run_ids retention.run_id[] not null,
  keys text[] collate "C" not null,
  tenants text[] not null,
  etags text[] collate "C",
  why text
    constraint why_is_known check (why in ('early', 'verify', 'after_restore')),
  asked_by text,
  revision bigint,
  policies jsonb,
  ends text[]
    constraint an_end_is_known check (ends <@ array['deleted', 'gone', 'marker', 'purged']),
  versions text[] collate "C",
  request_ids text[],
  settled_session text,
  product text,
  salt bytea,
  seal_id bigint,
  key_digests bytea,
  constraint a_settled_batch_has_no_lease check (settled_at is null or lease is null),
  constraint a_dead_batch_is_not_worked_on check (dead_at is null or lease is null and settled_at is null),
  constraint what_s3_has_deleted_is_not_claimed_again check (deleted_at is null or lease is null),
  constraint a_batch_ends_after_it_begins check (oldest <= newest),
  constraint a_canary_has_no_results check (kind is null or results = 0)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Written once, at flagging, and out of line: leasing and settling write a few hundred bytes. Random ids
-- do not compress; packed keys and tenants do.
alter table retention.batch
  alter column run_ids set storage external,
  alter column keys set storage extended,
  alter column tenants set storage extended,
  alter column etags set storage external,
  alter column key_digests set storage external;

comment on table retention.batch is
  'the unit of work and, once settled, the receipt: one bucket, one DeleteObjects request, one lease';
comment on column retention.batch.kind is
  'canary: an object of our own, see retention.canary; null: results';
comment on column retention.batch.run_ids is
  'its results: run_ids[i] of tenants[i] points at keys[i], packed by retention._pack_key. Of a settled batch those that it cleared: the receipt';
comment on column retention.batch.etags is
  'where the rows name etags: etags[i] is what S3 was asked to delete of keys[i], and no other version. Written by each claim; null: nothing is asked';
comment on column retention.batch.why is
  'early: asked for before its time; verify: its object had returned; after_restore: it was restored, and fell due again; null: the policy';
comment on column retention.batch.asked_by is
  'whose command last put it to work, as session user: early, narrowed, by the release of a surge, by retry; null: the cycle';
comment on column retention.batch.revision is
  'the newest row of retention.change when it was last claimed: which policies and holds it was judged by';
comment on column retention.batch.policies is
  'how long results were kept when it was last claimed: "*" by the default policy, or by the cutoff of an early deletion, and by tenant those with a policy of their own';
comment on column retention.batch.ends is
  'of a receipt: ends[i] says how the result of keys[i] ended: deleted, gone (the store had none), marker or purged. Null: all were deleted';
comment on column retention.batch.versions is
  'of a receipt: versions[i] is the version of the delete marker, or the last version that was purged; null: the store named none';
comment on column retention.batch.request_ids is
  'how the store names the requests in which it deleted something of it, also where the call failed after that; null: it names none';
comment on column retention.batch.settled_session is
  'of a receipt: the session user who wrote down what S3 has deleted; product: the version of that client';
comment on column retention.batch.salt is
  'what the salts of its leaves are made from; null: it is not sealed';
comment on column retention.batch.key_digests is
  'of a sealed receipt whose keys are hashed (setting.receipt_keys): 32 bytes in place of each key, and keys is empty; null: keys has them';
comment on column retention.batch.seal_id is
  'the seal that covers it; null: it is not sealed';
comment on column retention.batch.oldest is
  'between here and newest its results completed, as they were flagged: how the batch of a run is found';
comment on column retention.batch.late_since is
  'its results were late: a walk that began then had looked, and they were due before and unknown; infinity: no walk had; null: on time';
comment on column retention.batch.visible_at is
  'when it may be claimed: its retry time, or, while leased, the deadline of the lease';
comment on column retention.batch.early is
  'a cutoff confirmed by a person that stands in for the policy while its command lives: see retention.cutoff';
comment on column retention.batch.stuck_since is
  'since when S3 has answered its keys with faults of its own, while it may have deleted others';
comment on column retention.batch.code is
  'why all of its results failed when they were last tried (of S3, or an SQLSTATE); null: they have not failed';
comment on column retention.batch.dead_at is
  'failed too often, or for good: waits for retention.retry';
comment on column retention.batch.deleted_at is
  'since when S3 has deleted its objects and only the stamps are missing: never sent to S3 again, only stamped; null: not so';
comment on column retention.batch.given_back is
  'the lease that it was last given back under: who asks again gets the same answer';
comment on column retention.batch.problems is
  'what its last attempt ran into: [{"code", "message", "results", "run_ids", "retry_at"}]';

-- Beside the batches: what a claim spares and a retry moves leaves no trace in them.
create table retention.past_work (
  batch_id bigint not null,
  state text not null
    constraint past_state_is_known check (state in ('flagged', 'in flight', 'failed', 'dead', 'set aside')),
  since timestamptz not null,
  until timestamptz not null,
  because text,
  oldest timestamptz,
  newest timestamptz,
  run_ids retention.run_id[]
);

alter table retention.past_work
  alter column run_ids set storage external;

comment on table retention.past_work is
  'what batches were before: results that left them without being cleared, and attempts that came to nothing; kept for setting.history_kept';
comment on column retention.past_work.state is
  'what it was from since to until. flagged: run_ids were in the batch, and left it then; set aside: they were in the surge of that number. The others: the whole batch was';
comment on column retention.past_work.oldest is
  'between here and newest its results completed, as the batch has it';

-- By request and not by batch: whatever becomes of a result meanwhile (spared, regrouped, cleared by a
-- later request), a hold on it must know. With the objects, for other runs may share them.
create table retention.unanswered (
  unanswered_id bigint generated always as identity primary key,
  bucket text not null,
  run_ids retention.run_id[],
  keys text[] collate "C" not null,
  until timestamptz not null
);

comment on table retention.unanswered is
  'results that S3 may still delete until then: a request for them got no answer, or its sender is gone';
comment on column retention.unanswered.run_ids is
  'null: orphans, which belong to no run';

-- What the guards have set aside.
create table retention.surge (
  surge_id bigint generated always as identity primary key,
  found_at timestamptz not null default now(),
  found_by text not null,
  seen_at timestamptz,
  found bigint not null
    constraint a_surge_has_results check (found > 0),
  tenants bigint not null,
  rule text not null
    constraint rule_is_known check (rule in ('tenant', 'all')),
  closed_at timestamptz
);

comment on table retention.surge is
  'one row for each time that late results were set aside';
comment on column retention.surge.seen_at is
  'when the last complete walk before it had begun; null: there was none';
comment on column retention.surge.found is
  'how many results it had when it was found';
comment on column retention.surge.rule is
  'tenant: some tenant was over setting.surge_guard; all: only all together, over surge_guard_all';
comment on column retention.surge.closed_at is
  'since when nothing of it is set aside any more: released, or no longer due';

create table retention.surge_part (
  part_id bigint generated always as identity primary key,
  surge_id bigint references retention.surge,
  bucket text not null,
  results integer not null
    constraint a_part_has_1_to_1000_results check (results between 1 and 1000),
  oldest timestamptz not null,
  newest timestamptz not null,
  due_since timestamptz,
  parked_at timestamptz not null default now(),
  looked_at timestamptz not null default now(),
  run_ids retention.run_id[] not null,
  keys text[] collate "C" not null,
  tenants text[] not null
);

alter table retention.surge_part
  alter column run_ids set storage external;

comment on table retention.surge_part is
  'late results that are set aside, packed as in a batch; no work until released';
comment on column retention.surge_part.surge_id is
  'null: late results of a walk that is not complete; they are judged when it is';
comment on column retention.surge_part.looked_at is
  'when its results were last looked at again: what is no longer due leaves it';

create table retention.surge_release (
  surge_id bigint not null references retention.surge,
  tenant_id text,
  results bigint not null,
  released_at timestamptz not null default clock_timestamp(),
  released_by text not null default session_user
);

comment on table retention.surge_release is
  'who released how many results of a surge; tenant_id is null where it was all of it';

create table retention.lateness (
  tenant_key text not null,
  at timestamptz not null default now(),
  results bigint not null,
  rule text
);

comment on table retention.lateness is
  'by tenant and walk, how many results were late and not covered by an allowance';
comment on column retention.lateness.rule is
  'by which guard they were set aside, as in retention.surge; null: they were not';

create table retention.allowance (
  allowance_id bigint generated always as identity primary key,
  tenant_key text not null,
  results bigint not null
    constraint an_allowance_is_not_negative check (results >= 0),
  granted bigint not null,
  reason text not null,
  granted_at timestamptz not null default clock_timestamp(),
  granted_by text not null default session_user,
  hold_id bigint unique,
  counted_from timestamptz,
  counted_to timestamptz,
  valid_until timestamptz,
  walk_at timestamptz,
  dropped_at timestamptz
);

comment on table retention.allowance is
  'how many late results of a tenant a person has accounted for; results: how many are left';
comment on column retention.allowance.hold_id is
  'the hold on a tenant whose end it is for: each is counted once';
comment on column retention.allowance.counted_from is
  'of a policy: it counted runs that completed from here to counted_to, which another one need not count again';
comment on column retention.allowance.valid_until is
  'not dropped before a walk that began after this is complete';
comment on column retention.allowance.walk_at is
  'the first walk that began with it; when one is complete, the rest is dropped';

create table retention.shared_object (
  bucket text not null,
  key text collate "C" not null,
  until timestamptz not null,
  run_id retention.run_id,
  noted_at timestamptz not null default now(),
  primary key (bucket, key)
);

comment on table retention.shared_object is
  'objects that a run which is not due still needs: no other run''s result on them is flagged';
comment on column retention.shared_object.until is
  'when the last of the runs that need it falls due; infinity: nothing says when. A sweep looks again in any case';
comment on column retention.shared_object.run_id is
  'one of the runs that need it';

create table retention.keeper (
  keeper_id bigint generated always as identity primary key,
  table_name text not null,
  table_oid oid not null,
  key_column text not null,
  bucket_column text,
  until_column text,
  added_at timestamptz not null default now(),
  added_by text not null default session_user,
  question text not null,
  seen text not null,
  constraint a_keeper_is_added_once unique (table_name, key_column)
);

comment on table retention.keeper is
  'other tables of the application whose rows need objects too: what such a row names is not deleted, and is no orphan';
comment on column retention.keeper.table_oid is
  'the table that had the name when it was added: another one of that name is not asked, and closes the gate';
comment on column retention.keeper.bucket_column is
  'null: a row keeps its key in every bucket. A row without a value means setting.default_bucket, or where that is null every bucket';
comment on column retention.keeper.until_column is
  'null: a row keeps its object as long as it is there. A row without a value keeps it so as well';

comment on column retention.keeper.question is
  'what it is asked at each claim, as SQL';
comment on column retention.keeper.seen is
  'what the catalog said of its table when it was last looked at closely: while that is so, it is not again';

create table retention.spared_object (
  bucket text not null,
  key text collate "C" not null,
  etag text collate "C" not null,
  kept_by text,
  until timestamptz not null,
  run_id retention.run_id,
  times integer not null default 1,
  noted_at timestamptz not null default now(),
  primary key (bucket, key, etag),
  constraint what_is_kept_has_no_etag check ((kept_by is not null) = (etag = ''))
);

comment on table retention.spared_object is
  'objects that were spared for a keeper, or since S3 holds another version than the row names: not flagged before until';
comment on column retention.spared_object.etag is
  'the etag that S3 did not find, as _condition has it: a result with another one is flagged again. Empty: it is kept';
comment on column retention.spared_object.kept_by is
  'the table of the keeper; null: the object has changed';
comment on column retention.spared_object.until is
  'kept: until when (infinity: as long as the keeper has the row); changed: when S3 is asked again';
comment on column retention.spared_object.times is
  'how often in a row S3 held another version: the wait doubles';

-- By the moment of flagging, which all batches of one command have, and what is split off them keeps.
create table retention.cutoff (
  flagged_at timestamptz primary key,
  until timestamptz not null
);

comment on table retention.cutoff is
  'one row for each reconcile that deletes earlier than the policy, while it lives';
comment on column retention.cutoff.until is
  'its command claims before then, or is gone: then its batches go by the policy again';

-- Not a temporary table: a caller could have made one of that name, with triggers that would then run with
-- the rights of this schema's owner. Used under the lock of retention.pass_lock. A run id may stand in two partitions.
create unlogged table retention.selection (
  run_id retention.run_id not null,
  tenant_id text,
  bucket text not null,
  key text collate "C" not null,
  completed_at timestamptz not null,
  due_at timestamptz
);

comment on table retention.selection is
  'what a narrowed reconcile works with; empty between calls';

create unlogged table retention.stray (
  verify_id uuid not null,
  bucket text not null,
  key text collate "C" not null,
  bytes bigint not null,
  modified_at timestamptz not null,
  etag text,
  noted_at timestamptz not null default now(),
  kind text
    constraint stray_kind_is_known check (kind in ('orphan', 'returned')),
  primary key (verify_id, bucket, key)
);

comment on table retention.stray is
  'listed keys without a live row that a verify has set aside; empty between runs';
comment on column retention.stray.kind is
  'see retention.sort_strays(); null: neither, or not yet sorted';

-- By the thousand: with a row for each key it would be as large as an index.
create unlogged table retention.key_copy (
  copy_id bigint generated always as identity primary key,
  verify_id uuid not null,
  bucket text not null,
  prefix text not null,
  made_at timestamptz not null default now(),
  constraint a_verify_copies_keys_once unique (verify_id, bucket, prefix)
);

comment on table retention.key_copy is
  'that a verify has copied the keys of a bucket''s live rows, as far as they begin with prefix; empty between runs';

create unlogged table retention.key_stretch (
  copy_id bigint not null,
  place bigint not null,
  first_key text collate "C" not null,
  last_key text collate "C" not null,
  keys text[] not null,
  run_ids retention.run_id[] not null,
  primary key (copy_id, place)
);

comment on table retention.key_stretch is
  'up to a thousand keys of a copy in the order of bytes, each with the run that had it then; empty between runs';

-- Unlogged, as what it set aside: after a crash of the server all of it is empty together, and a verify begins again.
create unlogged table retention.verify_run (
  verify_id uuid primary key,
  kind text not null
    constraint kind_is_known check (kind in ('repair', 'dry run', 'orphans', 'list', 'inventory', 'standing')),
  bucket text not null,
  prefixes text[] collate "C" not null,
  holder uuid not null,
  began_at timestamptz not null default now(),
  worked_at timestamptz not null default clock_timestamp(),
  is_unsorted boolean not null default false
);

comment on table retention.verify_run is
  'one row for each bucket that a verify is at; empty between runs, but for what was broken off';
comment on column retention.verify_run.holder is
  'who works on it: a verify that is started again takes it over, and the one before stops';
comment on column retention.verify_run.is_unsorted is
  'its store lists out of order: what it lists is sorted in retention.verify_listed';

create unlogged table retention.verify_part (
  verify_id uuid not null references retention.verify_run on delete cascade,
  part integer not null,
  prefix text collate "C" not null,
  after_key text collate "C",
  until_key text collate "C",
  at_key text collate "C",
  token text,
  is_listed boolean not null default false,
  is_compared boolean not null default false,
  listed bigint not null default 0,
  stamped bigint not null default 0,
  primary key (verify_id, part)
);

comment on table retention.verify_part is
  'the parts that a bucket is listed in: a prefix, or a range of its keys';
comment on column retention.verify_part.at_key is
  'everything from after_key up to here is compared; null: nothing yet';
comment on column retention.verify_part.token is
  'of a listing out of order: how the store goes on';

create unlogged table retention.verify_stretch (
  stretch_id bigint generated always as identity primary key,
  verify_id uuid not null references retention.verify_run on delete cascade,
  part integer not null,
  after_key text collate "C",
  run_ids text[] not null,
  keys text[] collate "C" not null,
  dues boolean[] not null,
  is_gone boolean not null default false
);

comment on table retention.verify_stretch is
  'live rows whose key was not listed: they are stamped when a second look has not found it either';
comment on column retention.verify_stretch.is_gone is
  'the second look has not found them; they are not due, and are stamped at the end where they are not too many';

create unlogged table retention.verify_listed (
  verify_id uuid not null,
  key text collate "C" not null,
  bytes bigint not null,
  modified_at timestamptz not null,
  etag text,
  primary key (verify_id, key)
);

comment on table retention.verify_listed is
  'what a listing out of order or an inventory named, so that it can be read in order; empty between runs';

create table retention.standing_verify (
  bucket text primary key,
  every interval not null,
  first_at timestamptz not null default clock_timestamp(),
  asked_at timestamptz not null default clock_timestamp(),
  next_at timestamptz not null default clock_timestamp(),
  rechecked_at timestamptz not null default clock_timestamp(),
  verify_id uuid,
  began_at timestamptz,
  pages bigint not null default 0,
  expected bigint not null default 0,
  listed_now bigint not null default 0,
  found bigint not null default 0,
  finished_at timestamptz,
  listed bigint not null default 0,
  gone bigint not null default 0,
  returned bigint not null default 0,
  orphans bigint not null default 0,
  orphan_bytes bigint not null default 0,
  code text,
  problem text,
  problem_at timestamptz,
  constraint a_standing_problem_has_a_code check ((code is null) = (problem is null))
) with (fillfactor = 50);

comment on table retention.standing_verify is
  'one row for each bucket that listeners verify all the time (RETENTION_VERIFY_DAYS): how far they are, and what drift they found';
comment on column retention.standing_verify.every is
  'so long after one verify of the bucket began, the next one begins';
comment on column retention.standing_verify.asked_at is
  'when a listener last asked for work there, to the hour; first_at: when one first did';
comment on column retention.standing_verify.next_at is
  'when the next step is to be done; a listener that is at one has until then';
comment on column retention.standing_verify.verify_id is
  'its run in retention.verify_run; null: none is under way. began_at: when it or the last one began';
comment on column retention.standing_verify.pages is
  'how many pages of the listing are compared; expected: about how many there are; listed_now: their objects';
comment on column retention.standing_verify.found is
  'live rows whose object is gone, found by the one under way; gone: by the last one that came to its end, without those that were stamped since';
comment on column retention.standing_verify.finished_at is
  'when one last came to its end; listed: objects that it was listed; returned: cleared rows whose object was there, without those that became work since';
comment on column retention.standing_verify.orphans is
  'objects older than a day that no row pointed at, as the last one found them; orphan_bytes: their size';
comment on column retention.standing_verify.code is
  'why the last step failed; null: it did not';

create table retention.standing_gone (
  bucket text not null,
  run_id retention.run_id not null,
  key text collate "C" not null,
  verify_id uuid not null,
  primary key (bucket, run_id)
);

comment on table retention.standing_gone is
  'up to 1,000 live rows of a bucket whose object a standing verify has found gone, as long as they are live';

create table retention.orphan_list (
  list_id uuid primary key,
  bucket text not null,
  prefix text not null,
  margin interval not null
    constraint a_margin_is_an_hour_at_least check (margin >= '1 hour'),
  listed bigint not null,
  orphans bigint not null
    constraint only_what_was_listed_is_an_orphan check (orphans between 0 and listed),
  bytes bigint not null,
  digest text not null,
  made_at timestamptz not null default now(),
  made_by text not null default session_user,
  begun_at timestamptz,
  begun_by text,
  begun_as text,
  expected bigint,
  worked_at timestamptz,
  deleted bigint not null default 0,
  spared bigint not null default 0,
  failed bigint not null default 0,
  constraint a_begun_deletion_says_by_whom check (num_nonnulls(begun_at, begun_by, begun_as) in (0, 3))
);

comment on table retention.orphan_list is
  'one row for each list of orphans: when it was made, and what was deleted by it';
comment on column retention.orphan_list.listed is
  'how many objects S3 listed under the prefix; orphans: how many of them the list names';
comment on column retention.orphan_list.digest is
  'SHA-256 of the list without its closing line: another list is not deleted';
comment on column retention.orphan_list.begun_at is
  'when its deletion was first asked for; null: it was not';
comment on column retention.orphan_list.begun_as is
  'the session user who asked; begun_by is the name that was given';
comment on column retention.orphan_list.deleted is
  'how many objects S3 has named as deleted; of the others, spared were left and failed were refused';

-- Proof: what happened outside a batch, who changed what, and the seals over all of it.

create table retention.receipt (
  receipt_id bigint generated always as identity primary key,
  kind text not null
    constraint kind_is_known check (kind in ('found_gone', 'restored', 'unstamped', 'orphan', 'canary')),
  bucket text not null,
  results integer not null
    constraint a_receipt_has_1_to_1000_results check (results between 1 and 1000),
  settled_at timestamptz not null default clock_timestamp(),
  run_ids retention.run_id[] not null,
  keys text[] collate "C" not null,
  tenants text[] not null,
  asked_by text,
  revision bigint,
  ends text[]
    constraint an_end_is_known check (ends <@ array['deleted', 'gone', 'marker', 'purged']),
  versions text[] collate "C",
  request_ids text[],
  settled_session text not null default session_user,
  product text,
  salt bytea,
  seal_id bigint,
  key_digests bytea
);

alter table retention.receipt
  alter column key_digests set storage external,
  alter column run_ids set storage external;

comment on table retention.receipt is
  'receipts of what happens outside a batch; those of deletions by the cycle are the settled batches';
comment on column retention.receipt.kind is
  'found_gone: stamped, for its object was not there; restored: brought back, and its stamp taken away; unstamped: only its stamp was taken away; orphan: an object without a run was deleted; canary: an object of our own was';
comment on column retention.receipt.asked_by is
  'the session user whose command it was; product: the version of the client';
comment on column retention.receipt.revision is
  'the newest row of retention.change when it was written';
comment on column retention.receipt.versions is
  'restored: the version that is in sight again; orphan: as in a batch';
comment on column retention.receipt.run_ids is
  'run_ids[i] of tenants[i] points at keys[i], packed as in a batch; null elements: orphans belong to no run';

create table retention.returned_result (
  run_id retention.run_id not null,
  bucket text not null,
  key text collate "C" not null,
  why text not null
    constraint why_is_known check (why in ('verify', 'after_restore')),
  noted_at timestamptz not null default now(),
  primary key (run_id, bucket, key)
);

comment on table retention.returned_result is
  'results whose object is back, since their stamp was taken away: the receipt of their next deletion says why it is another';
comment on column retention.returned_result.why is
  'verify: a verify found the object; after_restore: it was restored, or its stamp was taken away by hand';

create table retention.stamp_account (
  kind text primary key
    constraint kind_is_known check (
      kind in (
        'accounted', 'no_receipt', 'before_adoption', 'receipt_pruned', 'no_stamp', 'no_row', 'another_result', 'returned'
      )
    ),
  results bigint not null,
  run_ids text[] not null,
  counted_at timestamptz not null,
  counted_by text not null default session_user
);

comment on table retention.stamp_account is
  'what the last retention.account_stamps() has found, by kind; empty: it was never asked';
comment on column retention.stamp_account.run_ids is
  'up to ten of the runs; of what is as it should be, none';

create table retention.change (
  change_id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  subject text not null,
  action text not null
    constraint action_is_known check (action in ('insert', 'update', 'delete')),
  tenant_id text,
  run_id text,
  name text,
  before jsonb,
  after jsonb,
  session_name text not null default session_user,
  role_name text,
  application text,
  salt bytea not null default uuid_send(gen_random_uuid()),
  seal_id bigint,
  constraint a_change_has_a_side check (num_nonnulls(before, after) > 0)
);

comment on table retention.change is
  'every change of a policy, hold, setting, keeper, bucket, surge, allowance or approval; append-only. Not what the cycle writes there: a bucket''s pauses and what is learned and looked for, the use of an allowance, the objects that a hold finds';
comment on column retention.change.at is
  'when the row was written; others see it from the end of that transaction on';
comment on column retention.change.subject is
  'the table: policy, hold, setting, keeper, bucket, surge, surge_release, allowance, approval';
comment on column retention.change.tenant_id is
  'as the row has it; ''*'': the default policy; null: it names no tenant';
comment on column retention.change.name is
  'what it is called within its subject: a policy''s tenant, a hold''s number, a table, a bucket, the number of a surge, allowance or approval; of the settings, the columns that changed';
comment on column retention.change.before is
  'the whole row before; null: it was inserted';
comment on column retention.change.application is
  'the application_name of the session, which anybody may choose';
comment on column retention.change.role_name is
  'the role that the session had set; null: none beside its own user';

create table retention.seal (
  seal_id bigint primary key,
  sealed_at timestamptz not null default clock_timestamp(),
  complete_to timestamptz,
  snapshot_xmin xid8,
  snapshot_xmax xid8,
  system_identifier text,
  batches bigint[] not null,
  receipts bigint[] not null,
  changes bigint[] not null,
  results bigint not null,
  digests bytea not null,
  previous bytea,
  digest bytea not null,
  pruned_at timestamptz
);

comment on table retention.seal is
  'one row for each seal: a digest over receipts and changes and over the seal before';
comment on column retention.seal.complete_to is
  'whatever was settled before then is covered by this seal or one before: nothing can be added there any more';
comment on column retention.seal.snapshot_xmin is
  'between here and snapshot_xmax were the transactions that were open when it was made; system_identifier: of the server whose they are';
comment on column retention.seal.pruned_at is
  'when its receipts were removed, after setting.receipts_kept; null: they are there';
comment on column retention.seal.digests is
  'SHA-256 of each member, 32 bytes each, of batches, then receipts, then changes; they stay when receipts are pruned';

-- Apart from the seals, so that an end which is cut off them shows.
create table retention.seal_head (
  singleton boolean primary key default true
    constraint there_is_one_seal_head_row check (singleton),
  seal_id bigint not null default 0,
  digest bytea,
  sealed_at timestamptz,
  problem text,
  problem_at timestamptz,
  constraint a_head_has_a_digest check ((seal_id = 0) = (digest is null))
) with (fillfactor = 20);

comment on table retention.seal_head is
  'one row: the latest seal, and why sealing fails; locked by who seals';
comment on column retention.seal_head.problem is
  'why sealing failed when it was last tried; null: it did not';
insert into retention.seal_head default values;

create table retention.canary (
  bucket text primary key,
  every interval not null,
  first_at timestamptz not null default clock_timestamp(),
  began_at timestamptz not null default clock_timestamp(),
  key text,
  asked_at timestamptz,
  batch_id bigint,
  settled_at timestamptz,
  confirmed_at timestamptz,
  code text,
  problem text,
  problem_at timestamptz,
  constraint a_problem_has_a_code check ((code is null) = (problem is null))
) with (fillfactor = 50);

comment on table retention.canary is
  'by bucket, the object of our own that goes the whole way to its deletion once in a while (RETENTION_CANARY_SECONDS)';
comment on column retention.canary.first_at is
  'when a listener first asked for it; began_at: when the present or the last one began';
comment on column retention.canary.key is
  'the object that is on its way; null: none is. asked_at: a listener was given its next step then';
comment on column retention.canary.settled_at is
  'when the store named it as deleted; null: it has not yet';
comment on column retention.canary.confirmed_at is
  'when one was last looked for after its deletion, and was not there';
comment on column retention.canary.code is
  'why the last one failed; null: it did not';

create table retention.seal_copy (
  bucket text primary key,
  written_to bigint not null default 0,
  written_at timestamptz,
  looked_at timestamptz not null default now(),
  problem text,
  problem_at timestamptz
);

comment on table retention.seal_copy is
  'one row for each bucket that seals are written to (RETENTION_SEAL_BUCKET)';
comment on column retention.seal_copy.written_to is
  'each seal up to this one is an object there';
comment on column retention.seal_copy.looked_at is
  'when a listener last asked what is to be written there, to the hour';
comment on column retention.seal_copy.problem is
  'why the next one could not be written; null: it could, or there is none';

-- Rows are only added, and removed after a day: what announces must not wait for what announces elsewhere.
create table retention.attention (
  attention_id bigint generated always as identity primary key,
  kind text not null,
  at timestamptz not null default clock_timestamp(),
  payload jsonb not null,
  told_at timestamptz
);

comment on table retention.attention is
  'one row for each announcement of what a person should know at once, kept for a day';
comment on column retention.attention.kind is
  'halted, copy, resumed, surge, dead, canary, sealed';
comment on column retention.attention.payload is
  'what was announced, without texts that may name keys';
comment on column retention.attention.told_at is
  'when it became part of a message to the webhook, or was overtaken; null: not yet, or there is no webhook';

create table retention.webhook (
  kind text primary key,
  message_id uuid,
  happened_at timestamptz,
  payload jsonb,
  announcements bigint,
  attempts integer not null default 0,
  next_at timestamptz not null default '-infinity',
  delivered_at timestamptz,
  problem text
);

comment on table retention.webhook is
  'one row for each kind of message: the one that is being sent to RETENTION_WEBHOOK_URL, and when the next may be';
comment on column retention.webhook.message_id is
  'of the message that is not delivered yet, the same at each attempt; null: there is none';
comment on column retention.webhook.announcements is
  'how many announcements it stands for: the latest one is in payload';
comment on column retention.webhook.next_at is
  'before then nothing of this kind is sent';
comment on column retention.webhook.problem is
  'why the last attempt failed; null: it did not';

-- Down Migration

drop table retention.standing_gone, retention.standing_verify, retention.key_stretch, retention.key_copy, retention.canary, retention.verify_listed, retention.verify_stretch, retention.verify_part, retention.verify_run, retention.webhook, retention.attention, retention.past_work, retention.ahead, retention.seal_copy, retention.seal_head, retention.seal, retention.change, retention.stamp_account, retention.returned_result, retention.receipt, retention.orphan_list, retention.held_object, retention.allowance, retention.lateness, retention.surge_release, retention.surge_part, retention.surge, retention.stray, retention.selection, retention.cutoff, retention.spared_object, retention.keeper, retention.shared_object, retention.unanswered, retention.batch, retention.progress, retention.scan, retention.pace, retention.stamping, retention.gate_state, retention.pass_lock, retention.heartbeat, retention.variable, retention.bucket, retention.approval, retention.hold,
  retention.policy, retention.fence, retention.identity, retention.installed, retention.adapter, retention.setting;
drop domain retention.tenant_id, retention.run_id;
