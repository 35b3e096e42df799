import { answerQuestions } from './processes.ts';

/*
A process that only counts: what anything at all that wants the processors costs the others, whatever
it does with them.
*/

const STRETCH_MILLISECONDS = 20;

function spin(share: number): never {
  const parent = process.ppid;
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    const endsAt = performance.now() + STRETCH_MILLISECONDS;
    while (performance.now() < endsAt);
    // No event is heard from here, and nobody else ends it once its parent was killed.
    if (process.ppid !== parent) process.exit();
    if (share < 1) Atomics.wait(nobody, 0, 0, STRETCH_MILLISECONDS / share - STRETCH_MILLISECONDS);
  }
}

/** Counts for this share of the time, from the answer on, until it is ended. */
answerQuestions(({ share }: { readonly share: number }) => {
  setTimeout(() => spin(share), 1);
  return Promise.resolve({});
});
