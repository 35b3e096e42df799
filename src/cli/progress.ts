import { formatDuration } from '../lifecycle/duration.ts';
import { showCount, showNumber } from '../numbers.ts';
import { canRedraw } from './terminal.ts';

/** Shows how far a longer work has come. */
export interface Progress {
  update(this: void, done: number, known: number): void;
  end(): void;
}

/** What is counted. */
export interface Counted {
  /** One of it. Default: `result`. */
  readonly one?: string;
  /** What was done to it. Default: `done`. */
  readonly verb?: string;
  /** Whether the number of all is an estimate, which may be too low. Default: false. */
  readonly isEstimate?: boolean;
}

const SECOND = 1_000;
const LINE_EVERY_MILLISECONDS = 2 * SECOND;
/** Before that, a pace says little. */
const LEAST_MILLISECONDS = SECOND;

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

/** `2,000 of 10,000 results done in 8 s, about 32 s to go`. */
export function describeProgress(
  at: { readonly done: number; readonly known: number; readonly milliseconds: number },
  { one = 'result', verb = 'done', isEstimate = false }: Counted = {},
): string {
  const { done, known, milliseconds } = at;
  const total = Math.max(done, known);
  // What has been overtaken was no good estimate.
  const said =
    isEstimate && known <= done
      ? `${showCount(done, one)} ${verb}`
      : `${showNumber(done)} of ${isEstimate ? 'about ' : ''}${showCount(total, one)} ${verb}`;
  if (milliseconds < LEAST_MILLISECONDS) return said;
  const left = (milliseconds / done) * (total - done);
  const toGo = done > 0 && done < total ? `, about ${inSeconds(left)} to go` : '';
  return `${said} in ${inSeconds(milliseconds)}${toGo}`;
}

function inSeconds(milliseconds: number): string {
  return formatDuration(Math.max(1, Math.round(milliseconds / SECOND)) * SECOND);
}
