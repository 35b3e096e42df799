import { isDeleteObjects } from '../../support/http-proxy.ts';
import { createDraws } from '../chaos/draws.ts';
import { type DrawWeather, WEATHER } from '../chaos/s3-weather.ts';
import type { Ground } from './ground.ts';

/** Those that pass, so that the drain goes on meanwhile. */
const WEATHERS = [
  'SlowDown',
  'InternalError',
  'a dropped request',
  'a late reply',
  'a lost reply',
  'half a reply',
  'refused keys',
  'unnamed keys',
];

/** Sessions of listeners end, as when a server is restarted. */
const END_SESSIONS = `
select count(pg_terminate_backend(a.pid))
from pg_stat_activity a
where a.application_name like 'retention%'
  and a.pid <> pg_backend_pid()`;

/**
 * Strikes one request of S3 in five, in a way that changes every second, ends sessions and kills listeners, until it is told
 * to end; then all is healed. Returns how many faults there were.
 */
export function drawFaults(ground: Ground): { readonly end: () => Promise<number> } {
  const draws = createDraws(1, 1);
  const over = new AbortController();
  let turns = 0;
  const change = (): void => {
    const draw: DrawWeather | undefined = WEATHER[draws.pick(WEATHERS)];
    const weather = draw?.(draws);
    ground.proxy.steer((request) =>
      isDeleteObjects(request) && draws.percent(20) ? weather?.(request) : undefined,
    );
  };
  const strike = async (): Promise<void> => {
    while (!over.signal.aborted) {
      change();
      turns += 1;
      if (turns % 5 === 0) await ground.sql(END_SESSIONS);
      if (turns % 10 === 0) await ground.replaceListener();
      // A lease of a listener that was killed runs out.
      if (turns % 10 === 9) {
        await ground.sql(
          `update retention.batch set visible_at = now() where lease is not null and leased_at < now() - interval '20 seconds'`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  };
  const striking = strike();
  return {
    end: async () => {
      over.abort();
      await striking;
      ground.proxy.heal();
      await ground.sql('update retention.batch set visible_at = now() where lease is not null');
      return [...ground.proxy.injected.values()].reduce((sum, count) => sum + count, 0);
    },
  };
}
