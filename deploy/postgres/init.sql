-- What a platform brings along: its table, pg_cron, and a role for the listener. For compose.yaml.
create extension if not exists pg_cron;

create table public.runs (
  run_id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  status text not null,
  completed_at timestamptz,
  result_s3_bucket text,
  result_s3_key text,
  result_cleared_at timestamptz,
  updated_at timestamptz not null default now()
);

-- The password is the one in compose.yaml: for trying out only.
create role retention_listener login password 'listener';
