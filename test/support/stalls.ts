const BEAT_MS = 20;
/** A stall is long over when nothing can have lain there since before it. */
const REMEMBERED_MS = 3_000;

/** Says how long this process may have kept what it was told waiting. */
export interface StallWatch {
  /** In milliseconds: what has come just now may have come as much earlier. */
  readonly recent: () => number;
  readonly stop: () => void;
}

/** Watches the gaps between beats: on a crowded machine a process may sleep for seconds. */
export function watchStalls(): StallWatch {
  let stalls: { readonly endedAt: number; readonly milliseconds: number }[] = [];
  let last = performance.now();
  const beat = setInterval(() => {
    const now = performance.now();
    const milliseconds = now - last;
    last = now;
    stalls = stalls.filter(({ endedAt }) => endedAt > now - REMEMBERED_MS);
    if (milliseconds > 2 * BEAT_MS) stalls.push({ endedAt: now, milliseconds });
  }, BEAT_MS);
  beat.unref();
  return {
    recent: () => {
      const now = performance.now();
      const since = stalls.filter(({ endedAt }) => endedAt > now - REMEMBERED_MS);
      // What came may have waited through one after the other.
      return since.reduce((sum, { milliseconds }) => sum + milliseconds, now - last);
    },
    stop: () => clearInterval(beat),
  };
}
