import { relative } from 'node:path';
import { once } from 'node:events';
import { COMMAND_FILE } from './project.ts';
import { launchListener } from './tour-set-up.ts';
import type { Tour } from './tour-state.ts';

/** Below a minute, so that every tick flags. */
const PLAY_INTERVAL_SECONDS = 30;

const MAKE_DUE = `update runs set completed_at = now() - interval '31 days'
where run_id in (
  select run_id from runs
  where status = 'COMPLETED' and result_cleared_at is null and result_s3_bucket is not null
  limit 3
);`;

/** Leaves the stack up with a listener on it, says how to play with it, and waits for Ctrl-C. */
export async function keepStack(tour: Tour): Promise<void> {
  const { narrator, signal, stack } = tour;
  narrator.step('Yours to play with');
  const interval = { DPP_RETENTION_LOOP_INTERVAL_SECONDS: String(PLAY_INTERVAL_SECONDS) };
  const environment = { ...stack.environment, ...interval };
  await launchListener(tour, environment);
  const command = `node ${relative(process.cwd(), COMMAND_FILE)}`;
  narrator.say(
    'The listener runs again, and from now on every tick flags. In another terminal:',
    '',
  );
  for (const [name, value] of Object.entries(environment)) {
    narrator.say(`export ${name}='${value}'`);
  }
  narrator.say(
    '',
    '# look, and listen',
    `${stack.postgres.psqlPath} "$DATABASE_URL"`,
    ...['retention_expired', 'retention_cleared', 'retention_failed'].map(
      (channel) => `  listen ${channel};`,
    ),
    '  select * from retention.status \\gx',
    '',
    '# in psql: make three fresh runs due, then wait for the next minute',
    ...MAKE_DUE.split('\n').map((line) => `  ${line}`),
    '',
    '# the command line',
    `${command} status`,
    `${command} reconcile --dry-run --verbose`,
    `${command} reconcile --older-than 7d --tenant acme`,
    `${command} --help`,
    '',
    'Ctrl-C here takes everything down.',
  );
  if (!signal.aborted) await once(signal, 'abort');
}
