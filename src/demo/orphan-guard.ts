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
  const guard = spawn('/bin/sh', ['-c', GUARD_SCRIPT, 'retention-guard', folder], {
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
