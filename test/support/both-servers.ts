import { afterAll, beforeAll, describe, inject } from 'vitest';
import { startMemoryS3 } from '../stack/memory-s3.ts';
import type { S3Target } from './s3-target.ts';

/** Runs the same tests against the S3 in memory and against the run's real one. */
export function onBothServers(contract: (target: () => S3Target) => void): void {
  describe('the S3 in memory', () => {
    let stop: (() => Promise<void>) | undefined;
    let target: S3Target | undefined;
    beforeAll(async () => {
      const server = await startMemoryS3();
      const [owner, other] = server.users;
      if (!owner) throw new Error('it has no user');
      target = { endpoint: server.endpoint, region: server.region, owner, other };
      stop = () => server.stop();
    });
    afterAll(() => stop?.());
    contract(() => target as S3Target);
  });

  const realS3 = inject('realS3');
  describe.skipIf(realS3.kind === 'missing')(
    `the real S3 (${realS3.kind === 'running' ? realS3.name : realS3.reason})`,
    () => {
      contract(() => {
        if (realS3.kind === 'missing') throw new Error(realS3.reason);
        return realS3.target;
      });
    },
  );
}
