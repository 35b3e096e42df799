import { constants } from 'node:os';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** The signals that ask a process to end. */
export type StopSignal = (typeof SIGNALS)[number];

/** What of `process` is used; tests bring their own. */
export interface SignalSource {
  on(signal: StopSignal, listener: () => void): unknown;
  off(signal: StopSignal, listener: () => void): unknown;
}

/** What happens on signals. */
export interface StopSignalOptions {
  /** Told of the first signal, when the graceful end begins. */
  onFirst?(signal: StopSignal): void;
  /** Told of the second, just before the end. */
  onSecond?(signal: StopSignal): void;
  /** Default: `process`. */
  readonly source?: SignalSource;
  /** Ends the process at once. Default: `process.exit`. */
  readonly exit?: (code: number) => void;
}

/** Listens for signals until it is disposed of. */
export interface StopSignals {
  /** Aborted by the first signal, with its name as the reason. */
  readonly signal: AbortSignal;
  dispose(): void;
}

/**
 * The first SIGTERM or SIGINT aborts the signal, so that everything ends in good order. The second
 * one ends the process at once, with 128 and the signal's number, as a shell would say it.
 */
export function watchStopSignals(options: StopSignalOptions = {}): StopSignals {
  const source: SignalSource = options.source ?? process;
  // oxlint-disable-next-line unicorn/no-process-exit -- a second signal means now
  const exit = options.exit ?? ((code: number) => process.exit(code));
  const controller = new AbortController();

  const listeners = SIGNALS.map((name) => {
    const listener = (): void => {
      if (controller.signal.aborted) {
        options.onSecond?.(name);
        exit(128 + constants.signals[name]);
        return;
      }
      controller.abort(name);
      options.onFirst?.(name);
    };
    source.on(name, listener);
    return { name, listener };
  });
  return {
    signal: controller.signal,
    dispose: () => {
      for (const { name, listener } of listeners) source.off(name, listener);
    },
  };
}
