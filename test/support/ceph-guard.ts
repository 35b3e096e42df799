import { spawn } from 'node:child_process';
import { Socket } from 'node:net';

/**
 * Waits for the end of its input, which comes when whoever started this stops the cluster or dies,
 * however it dies; then ends the cluster's processes and removes its folder.
 *
 * A pid file may be stale and its number taken by another process, so a process is only ended when
 * its command line names this cluster's configuration. Its data is not worth a tidy stop.
 */
const GUARD_SCRIPT = `
trap '' INT TERM HUP
read -r nothing
folder=$1
is_ours() { tr '\\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "-c $folder/ceph.conf "; }
for file in "$folder"/run/*.pid; do
  pid=$(cat "$file" 2>/dev/null) || continue
  while is_ours "$pid"; do
    kill -s KILL "$pid" 2>/dev/null
    sleep 0.02
  done
done
rm -rf -- "$folder"
`;

/**
 * Watches over a cluster's folder from a process of its own, so that nothing stays behind even when
 * this process is killed outright.
 *
 * @returns a function that ends the cluster and resolves when nothing of it is left.
 */
export function guardCeph(folder: string): () => Promise<void> {
  const guard = spawn('/bin/sh', ['-c', GUARD_SCRIPT, 'ceph-guard', folder], {
    cwd: '/',
    // Its own session: a Ctrl-C meant for this program must not reach the guard.
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const ended = new Promise<void>((resolve, reject) => {
    guard.once('exit', () => resolve());
    guard.once('error', reject);
  });
  // Whoever ends the cluster is told; nobody else is there to hear.
  ended.catch(() => undefined);
  guard.stdin.on('error', () => undefined);
  guard.unref();
  // A pipe to a child is a socket, whatever its type says; it must not keep this program alive.
  if (guard.stdin instanceof Socket) guard.stdin.unref();
  return async () => {
    guard.ref();
    guard.stdin.end();
    await ended;
  };
}
