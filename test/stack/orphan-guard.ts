import { spawn } from 'node:child_process';
import { Socket } from 'node:net';

/**
 * Waits for one line on its input. A line means that all was tidied up. The end of input means
 * that whoever started this is dead, however it died: then the server in the folder is ended and
 * the folder removed.
 *
 * The pid file may be stale and its number taken by another process, so a process is only ended
 * when its working folder is the server's data folder.
 */
const GUARD_SCRIPT = `
trap '' INT TERM HUP
read -r word && exit 0
data="$1/data"
pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
is_ours() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$data" ]; }
signal=QUIT
tries=0
while is_ours; do
  [ "$tries" -gt 100 ] && signal=KILL
  kill -s "$signal" "$pid" 2>/dev/null
  tries=$((tries + 1))
  sleep 0.05
done
rm -rf -- "$1"
`;

/**
 * Watches over a server's folder from a process of its own, so that nothing stays behind even when
 * this process is killed outright.
 *
 * @param folder the scratch folder, with the server's data in its `data` folder.
 * @returns a function that calls the guard off; call it after the folder has been removed.
 */
export function guardAgainstOrphans(folder: string): () => void {
  return startGuard(GUARD_SCRIPT, [folder]);
}

/**
 * Waits like the other one. When whoever started this is dead, the process is asked to end, and
 * killed when it has not after ten seconds; never another one that has got its number.
 */
const PROCESS_GUARD_SCRIPT = `
trap '' INT TERM HUP
read -r word && exit 0
is_ours() { grep -qzxF -- "$2" "/proc/$1/cmdline" 2>/dev/null; }
signal=TERM
tries=0
while is_ours "$1" "$2"; do
  [ "$tries" -gt 100 ] && signal=KILL
  [ "$tries" -eq 0 ] || [ "$signal" = KILL ] && kill -s "$signal" "$1" 2>/dev/null
  tries=$((tries + 1))
  sleep 0.1
done
`;

/**
 * Watches over a process that must not outlive this one, from a process of its own.
 *
 * @param pid the process; undefined: it did not start.
 * @param argument one of its command line's words, by which it is known.
 * @returns a function that calls the guard off; call it when the process has ended.
 */
export function guardProcess(pid: number | undefined, argument: string): () => void {
  if (pid === undefined) return () => undefined;
  return startGuard(PROCESS_GUARD_SCRIPT, [String(pid), argument]);
}

function startGuard(script: string, parameters: readonly string[]): () => void {
  const guard = spawn('/bin/sh', ['-c', script, 'retention-guard', ...parameters], {
    cwd: '/',
    // Its own session: a Ctrl-C meant for this program must not reach the guard.
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // A guard that could not start protects nothing but must not break what it guards.
  guard.on('error', () => undefined);
  guard.stdin.on('error', () => undefined);
  guard.unref();
  // A pipe to a child is a socket, whatever its type says; it must not keep this program alive.
  if (guard.stdin instanceof Socket) guard.stdin.unref();
  return () => {
    guard.stdin.end('done\n');
  };
}
