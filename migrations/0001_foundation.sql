-- Up Migration

/*
Retention Reactor: the safe, fast expiry of S3 objects whose truth lives here.

The application keeps each finished run as a row and the run's result as an S3
object. After the retention period the object must go and the row must stay,
stamped with when its result went. This schema decides which results are due,
writes them down as work, hands the work out under leases, and stamps the rows
once S3 has named the keys as deleted. The listener (a separate process) does
nothing but claim, call S3, and settle.

    tick --> flag_expired --> batch + expired --> claim --> [S3] --> settle
                                  |                                    |
                                  +--- NOTIFY retention_expired        +--- stamp, NOTIFY retention_cleared

setting        one row: what operators choose for the whole database
adapter        one row: which table was adopted, and how its columns are called
policy         how long results are kept: '*' for everybody, or by tenant
hold           what must not be deleted, by run or by tenant, and why
bucket         what is known and wanted of each bucket
heartbeat      one row: when the scheduler was last alive, and what the last pass left
progress       by tenant, the last result that flagging has looked at
scan           one row per flagging pass that did something
batch          the unit of work: one bucket, at most 1,000 results, one
               DeleteObjects request, one lease; settled batches stay a while as
               history and are pruned
expired        the flagged results, one row each, gone when settled
unanswered     results that S3 may still be asked to delete by a request that nobody waits for

The application's table is only ever seen through the view retention.result.
NOTIFY is a hint for people and programs that watch; these tables are the truth.

State rules live in the functions of this schema and nowhere else. They are
security definer with a pinned search_path, so that a role needs no more than
EXECUTE; nothing here is open to PUBLIC.
*/

create schema if not exists retention;

comment on schema retention is
  'Retention Reactor: expiry of S3 results whose truth lives in this database';

create table retention.setting (
  singleton boolean primary key default true
    constraint there_is_one_setting_row check (singleton),
  enabled boolean not null default true,
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
  default_bucket text
    constraint default_bucket_is_not_empty check (default_bucket <> ''),
  check_shared_objects boolean not null default true,
  policy_guard integer not null default 1000
    constraint policy_guard_is_not_negative check (policy_guard >= 0),
  release_spread interval not null default '1 hour',
  unanswered_for interval not null default '15 minutes'
    constraint unanswered_for_is_not_negative check (unanswered_for >= '0'),
  reclaim_over integer not null default 16777216
    constraint reclaim_over_is_not_negative check (reclaim_over >= 0),
  statements_at_once integer not null default 2
    constraint statements_at_once_is_positive check (statements_at_once > 0)
);

comment on column retention.setting.enabled is
  'false: nothing is flagged and nothing is claimed; status, dry runs and holds work';
comment on column retention.setting.loop_interval is
  'how often a tick flags; the tick itself comes every minute';
comment on column retention.setting.sweep_interval is
  'how often, at least, a pass starts from the oldest result again instead of going on from its progress';
comment on column retention.setting.small_backlog is
  'with no more than this many results behind its progress, every pass starts from the oldest';
comment on column retention.setting.default_bucket is
  'the bucket of results whose row names none';
comment on column retention.setting.policy_guard is
  'a policy that makes more live results than this due at once waits for a confirmation';
comment on column retention.setting.release_spread is
  'over how long the results of a tenant come back after a hold on it has ended';
comment on column retention.setting.reclaim_over is
  'how many bytes retention.expired may take before a pass that finds next to nothing in it starts it anew';
comment on column retention.setting.statements_at_once is
  'while so many claims and settles of others are at work, a listener goes down to one batch at a time, with pauses';
comment on column retention.setting.unanswered_for is
  'how long S3 may still perform a request that got no answer: it takes none whose signature is older than 15 minutes';
comment on column retention.setting.check_shared_objects is
  'false gives up: two runs on one key, one due and one not, lose the object';

insert into retention.setting default values;

create table retention.adapter (
  singleton boolean primary key default true
    constraint there_is_one_adapter_row check (singleton),
  table_name text not null,
  columns jsonb not null,
  added_cleared_at boolean not null,
  scheduler text not null
    constraint scheduler_is_known check (scheduler in ('pg_cron', 'internal')),
  cron_database text,
  cron_job_owner text,
  listener_role text
);

create table retention.policy (
  tenant_id text primary key,
  retain interval not null
    constraint retain_is_at_least_one_day check (retain >= '1 day')
    constraint retain_is_below_a_century check (retain <= '36134 days'),
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
  known_since timestamptz not null default now()
);

create table retention.heartbeat (
  singleton boolean primary key default true
    constraint there_is_one_heartbeat_row check (singleton),
  ticked_at timestamptz,
  ticked_by text,
  passed_at timestamptz,
  more boolean not null default false,
  swept_at timestamptz,
  left_alone integer not null default 0,
  kept_house_at timestamptz
) with (fillfactor = 20);

comment on column retention.heartbeat.more is
  'the last pass hit a limit: the next tick need not wait for the interval';
comment on column retention.heartbeat.swept_at is
  'when a pass last started from the oldest result';
comment on column retention.heartbeat.left_alone is
  'results past their policy that passes since then went by: held, without a place, or under retain_until';

insert into retention.heartbeat default values;

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
  hit_limit boolean not null,
  oldest timestamptz
);

comment on column retention.scan.without_place is
  'due, but the row names no bucket or an empty key: not work, only counted';

create index scan_started_at on retention.scan (started_at);

-- Down Migration

drop table retention.scan, retention.heartbeat, retention.bucket, retention.policy,
  retention.adapter, retention.setting;
