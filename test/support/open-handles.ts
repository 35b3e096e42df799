/** How many sockets of this process are open. */
export function countOpenSockets(): number {
  return count(/TCPSocket/u);
}

/** How many sockets, timers and connection attempts of this process are open. */
export function countOpenHandles(): number {
  return count(/Timeout|TCPSocket|TCPConnect|GetAddrInfo/u);
}

function count(kinds: RegExp): number {
  return process.getActiveResourcesInfo().filter((kind) => kinds.test(kind)).length;
}
