/** Shows how far a longer work has come. */
export interface Progress {
  update(this: void, done: number, known: number): void;
  end(): void;
}

const LINE_EVERY_MILLISECONDS = 2_000;

/** A bar on a terminal, a line every two seconds otherwise; on stderr either way. */
export async function createProgress(): Promise<Progress> {
  return process.stderr.isTTY ? createBar() : createLines();
}

async function createBar(): Promise<Progress> {
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    format: '{bar} {value}/{total} results, {duration_formatted}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  let isStarted = false;
  return {
    update: (done, known) => {
      if (isStarted) bar.setTotal(Math.max(known, done));
      else bar.start(Math.max(known, done), 0);
      isStarted = true;
      bar.update(done);
    },
    end: () => bar.stop(),
  };
}

function createLines(): Progress {
  let saidAt = performance.now();
  return {
    update: (done, known) => {
      if (performance.now() - saidAt < LINE_EVERY_MILLISECONDS) return;
      saidAt = performance.now();
      process.stderr.write(`${done} of ${Math.max(known, done)} results done\n`);
    },
    end: () => undefined,
  };
}
