import { type Counted, describeProgress } from './progress-words.ts';
import { canRedraw } from './terminal.ts';

/** Shows how far a longer work has come. */
export interface Progress {
  update(this: void, done: number, known: number): void;
  end(): void;
}

const SECOND = 1_000;
const LINE_EVERY_MILLISECONDS = 2 * SECOND;

/** A bar on a terminal, a line every two seconds otherwise; on stderr either way. */
export async function createProgress(counted: Counted = {}): Promise<Progress> {
  return canRedraw(process.stderr) ? createBar(counted) : createLines(counted);
}

async function createBar(counted: Counted): Promise<Progress> {
  const { SingleBar } = await import('cli-progress');
  const beganAt = performance.now();
  const bar = new SingleBar({
    format: '{bar} {figures}',
    stream: process.stderr,
    // The figures take the rest of 80 columns.
    barsize: 20,
    hideCursor: true,
    clearOnComplete: true,
  });
  let isStarted = false;
  return {
    update: (done, known) => {
      const total = Math.max(known, done);
      const milliseconds = performance.now() - beganAt;
      const figures = { figures: describeProgress({ done, known, milliseconds }, counted) };
      if (isStarted) bar.setTotal(total);
      else bar.start(total, 0, figures);
      isStarted = true;
      bar.update(done, figures);
    },
    end: () => bar.stop(),
  };
}

function createLines(counted: Counted): Progress {
  const beganAt = performance.now();
  let saidAt = beganAt;
  return {
    update: (done, known) => {
      const now = performance.now();
      if (now - saidAt < LINE_EVERY_MILLISECONDS) return;
      saidAt = now;
      const line = describeProgress({ done, known, milliseconds: now - beganAt }, counted);
      process.stderr.write(`${line}\n`);
    },
    end: () => undefined,
  };
}
