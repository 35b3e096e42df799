import type { Draws } from './draws.ts';
import { type Faults, last, type Scene } from './scene.ts';

/** What becomes of the reactor's own processes. */
export const PROCESS_FAULTS: Faults = [
  [6, ['kill -9 of a listener', ({ crew }, draws) => draws.pick(crew.posts).relieve('SIGKILL')]],
  [4, ['SIGTERM to a listener', ({ crew }, draws) => draws.pick(crew.posts).relieve('SIGTERM')]],
  [4, ['a listener stopped for longer than its lease', stopListener]],
  [1, ['no server when a listener starts, and SIGTERM meanwhile', startWithoutServer]],
  [3, ['kill -9 of a reconcile run', killReconcile]],
];

/** It wakes up when others have taken over what it thinks is its own. */
async function stopListener({ crew }: Scene, draws: Draws): Promise<void> {
  const process = draws.pick(crew.posts).process();
  if (process === undefined) return;
  process.kill('SIGSTOP');
  await last(draws, 1_000, 16_000);
  process.kill('SIGCONT');
}

async function startWithoutServer(scene: Scene, draws: Draws): Promise<void> {
  scene.restarting ??= (async () => {
    const post = draws.pick(scene.crew.posts);
    await scene.postgres.down('fast');
    await post.relieve('SIGKILL');
    await last(draws, 500, 4_000);
    await post.relieve('SIGTERM');
    await last(draws, 0, 2_000);
    await scene.postgres.up();
    scene.restarting = undefined;
  })();
  await scene.restarting;
}

async function killReconcile({ crew }: Scene): Promise<void> {
  crew.reconciling()?.kill('SIGKILL');
  await Promise.resolve();
}
