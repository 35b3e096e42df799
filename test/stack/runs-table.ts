/**
 * The application's table as the operating guide describes it, for the demo and the tests.
 *
 * The columns are the guide's; nothing here is Retention Reactor's own, and the table carries no
 * index but its key, as an application that never heard of retention would have it.
 */
export const runsTableSql = `
create table public.runs (
  run_id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  status text not null,
  completed_at timestamptz,
  result_s3_bucket text,
  result_s3_key text,
  result_cleared_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
`;
