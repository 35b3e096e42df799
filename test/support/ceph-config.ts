import { join } from 'node:path';

/** Where the parts of a one-node Ceph find each other. */
export interface CephPlaces {
  readonly folder: string;
  readonly clusterId: string;
  readonly osdId: string;
  readonly monitorPort: number;
  readonly gatewayPort: number;
}

/** Gibibytes that the objects may take; memory is only used as it fills. */
const STORE_GIB = 4;

/**
 * The configuration of a cluster of one of each, on loopback and in memory: no replicas, no
 * authentication between its parts, and no waiting for others who are not there.
 */
export function cephConfig(places: CephPlaces): string {
  const { folder, clusterId, osdId, monitorPort, gatewayPort } = places;
  return `
[global]
fsid = ${clusterId}
mon host = [v2:127.0.0.1:${monitorPort}/0]
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
# The gateway's own default, secure, cannot be had without authentication.
ms mon client mode = crc
ms crc data = false
ms crc header = false
ms bind msgr1 = false
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
throttler perf counter = false
run dir = ${join(folder, 'run')}
admin socket =
crash dir = ${join(folder, 'crash')}
log file = ${join(folder, 'log', '$name.log')}
log to stderr = false
${QUIET.map((part) => `debug ${part} = 0/0`).join('\n')}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
# Keys of 1,024 bytes, with what the gateway puts around them.
osd max object name len = 1900
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
mon pg warn min per osd = 0
mon data avail warn = 1
mon data avail crit = 1
mon cluster log file = ${join(folder, 'log', 'cluster.log')}
# A quorum of one need not gather proposals for a second.
paxos propose interval = 0.02
paxos min wait = 0.01

[mon]
mon data = ${join(folder, 'mon')}
# How full the machine's disk is does not matter to what lies in memory.
mon osd nearfull ratio = .97
mon osd backfillfull ratio = .98
mon osd full ratio = .99

[osd]
osd data = ${join(folder, 'osd')}
osd objectstore = memstore
osd uuid = ${osdId}
memstore device bytes = ${STORE_GIB * 1024 ** 3}
osd min pg log entries = 10
osd max pg log entries = 200
osd pg log trim min = 10
osd pg log dups tracked = 10
osd enable op tracker = false

[client]
# A request that comes before the osd is up waits for this tick; by default 5 s.
objecter tick interval = 0.25
rgw data = ${join(folder, 'rgw')}
# Without tcp_nodelay many replies wait 40 ms for a delayed ACK.
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
rgw ops log rados = false
rgw rados pool pg num min = 8
rgw s3 auth use keystone = false
`;
}

const QUIET = [
  'default',
  'ms',
  'rgw',
  'osd',
  'mon',
  'paxos',
  'monc',
  'objecter',
  'rocksdb',
] as const;
