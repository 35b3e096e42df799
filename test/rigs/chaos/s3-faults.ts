import { BUCKETS } from './application.ts';
import { epochMs } from './application-sessions.ts';
import type { Draws } from './draws.ts';
import { type Fault, type Faults, last, type Scene } from './scene.ts';
import { type DrawWeather, WEATHER } from './s3-weather.ts';

/** What becomes of S3 and of the way to it. */
export const S3_FAULTS: Faults = [
  [1, ['a bucket deleted and made again', loseBucket]],
  ...Object.entries(WEATHER).map(
    ([name, drawWeather]) => [1, [`S3: ${name}`, weather(drawWeather)]] as const,
  ),
];

/** The latest weather is the one there is. */
function weather(drawWeather: DrawWeather): Fault {
  return async ({ proxy }, draws) => {
    proxy.steer(drawWeather(draws));
    await last(draws);
    proxy.heal();
  };
}

async function loseBucket({ s3, record }: Scene, draws: Draws): Promise<void> {
  const bucket = draws.pick(BUCKETS);
  s3.removeBucket(bucket);
  record.noteLoss(bucket, epochMs());
  await last(draws, 500, 4_000);
  s3.createBucket(bucket);
}
