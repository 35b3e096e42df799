// Preloaded into a process that SIGSTOP is to treat as a suspended machine treats it: its monotonic clock
// stands still meanwhile, and its wall clock goes on.
const LONGEST_TURN_MS = 500;
const trueNow = performance.now.bind(performance);
let seenAt = trueNow();
let stoodStillMs = 0;

function look() {
  const now = trueNow();
  if (now - seenAt > LONGEST_TURN_MS) stoodStillMs += now - seenAt;
  seenAt = now;
  return now - stoodStillMs;
}

performance.now = look;
setInterval(look, LONGEST_TURN_MS / 5).unref();
