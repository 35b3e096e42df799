// The table of rooms: what each holds, and which rooms and packages it may use. From it come the lint
// rules (oxlint.config.mjs), the table of CONTRIBUTING.md, and the tests of both. Plain JavaScript: the
// linter reads it on every Node that the project runs on.

/** Packages that only the rooms which name them may use. `*` stands for any text. */
export const GUARDED_PACKAGES = [
  'pg',
  'pg-listen',
  'node-pg-migrate',
  '@aws-sdk/*',
  '@smithy/*',
  'hpagent',
  'proxy-from-env',
  'winston',
  'prom-client',
  '@opentelemetry/*',
  'commander',
  'cli-progress',
  'zod',
];

const PG = ['pg', 'pg-listen', 'node-pg-migrate'];
const AWS = ['@aws-sdk/*', '@smithy/*'];
/** What a request is sent through. */
const PROXY = ['hpagent', 'proxy-from-env'];
const ABOVE_STORE = [
  'config',
  'lifecycle',
  'network',
  'payloads',
  'store',
  'objects',
  'reactor',
  'proof',
  'telemetry',
  'webhook',
];

/**
 * `files`: whom the row is about; of several rows for a file the last one counts. `rooms`: what of src/
 * they may use beside their own room and the files directly in src/: a room, or one file of it. `but`:
 * files of these rooms that stay closed. `packages`: which of the guarded ones.
 */
export const ROOMS = [
  // Also a folder that has no row of its own yet.
  {
    files: ['src/**/*.ts'],
    holds: 'errors, texts, what every room may use',
    rooms: [],
    packages: [],
  },
  {
    files: ['src/config/**'],
    holds: 'one declaration per setting; what else there is about settings is derived from it',
    rooms: [],
    packages: ['zod'],
  },
  { files: ['src/logger.ts'], holds: 'the log', rooms: [], packages: ['winston'] },
  {
    files: ['src/index.ts'],
    holds: "the library's face; nothing but exports",
    rooms: ['database', ...ABOVE_STORE],
    packages: [],
  },
  {
    files: ['src/assembly*.ts'],
    holds: 'puts the rooms together',
    rooms: ['database', ...ABOVE_STORE],
    packages: [],
  },
  {
    files: ['src/lifecycle/**'],
    holds: 'start and stop, loops, backoff, signals',
    rooms: [],
    packages: [],
  },
  {
    files: ['src/network/**'],
    holds: 'how requests leave: addresses, connections, proxies',
    rooms: [],
    packages: PROXY,
  },
  {
    files: ['src/payloads/**'],
    holds: 'the schemas of notifications, of JSON documents and of messages',
    rooms: [],
    packages: ['zod'],
  },
  {
    files: ['src/database/**'],
    holds: 'pool, transactions, notifications, migrations',
    rooms: ['config', 'lifecycle'],
    packages: PG,
  },
  {
    files: ['src/store/**'],
    holds: 'one function per SQL function',
    rooms: ['lifecycle', 'database/queryable.ts'],
    packages: [],
  },
  {
    files: ['src/objects/**'],
    holds: 'the object store, its port and what all stores share',
    rooms: ['lifecycle'],
    packages: [],
  },
  {
    files: ['src/objects/s3/**'],
    holds: 'the only AWS code',
    rooms: ['lifecycle', 'network'],
    packages: AWS,
  },
  {
    files: ['src/reactor/**'],
    holds: 'worker, listener, reconcile, verify, restore, doctor',
    rooms: ['config', 'lifecycle', 'store', 'objects', 'telemetry'],
    but: ['objects/s3/*'],
    packages: [],
  },
  {
    files: ['src/proof/**'],
    holds: 'seals, exports, certificates',
    rooms: ['config', 'lifecycle', 'store', 'objects'],
    but: ['objects/s3/*'],
    packages: [],
  },
  {
    files: ['src/telemetry/**'],
    holds: 'metrics, health, the status page',
    rooms: ['config', 'lifecycle', 'store', 'objects', 'reactor'],
    but: ['objects/s3/*'],
    packages: ['prom-client', '@opentelemetry/*'],
  },
  {
    files: ['src/webhook/**'],
    holds: 'messages to RETENTION_WEBHOOK_URL',
    rooms: ['lifecycle', 'network', 'store'],
    packages: [],
  },
  {
    files: ['src/testing/**'],
    holds: 'the contract suite of the object store, for stores of others',
    rooms: ['objects'],
    but: ['objects/s3/*'],
    packages: [],
  },
  {
    files: ['src/cli/**'],
    holds: 'the command, one file per command',
    rooms: ['database', ...ABOVE_STORE],
    packages: ['commander', 'cli-progress', 'zod'],
  },
  {
    files: ['test/stack/**'],
    holds:
      'the private Postgres, the in-process S3, what the distribution is asked for, the guided tour',
    rooms: ['database', ...ABOVE_STORE],
    packages: [],
  },
];

/** The folders of src/. */
export const SOURCE_ROOMS = [
  ...new Set(ROOMS.flatMap(({ files }) => files.map(roomOf)).filter((room) => room !== undefined)),
];

/** The folder of src/ that a row is about; undefined: none. */
export function roomOf(pattern) {
  return /^src\/([a-z]+)\//u.exec(pattern)?.[1];
}

/** The options of the rule `no-restricted-imports` for a row. */
export function restrictionsOf(row) {
  const own = roomOf(row.files[0]);
  const closedRooms = SOURCE_ROOMS.filter((room) => room !== own && !row.rooms.includes(room));
  const openFiles = row.rooms.filter((room) => room.includes('/'));
  return {
    patterns: [
      {
        group: GUARDED_PACKAGES.filter((name) => !row.packages.includes(name)),
        message: `Packages open to ${row.files[0]}: ${list(row.packages)} (.ci/rooms.mjs).`,
      },
      {
        group: [
          ...closedRooms.map((room) => `**/${room}/**`),
          ...openFiles.map((file) => `!**/${file}`),
          ...(row.but ?? []).map((file) => `**/${file}`),
        ],
        message: `Rooms open to ${row.files[0]}: ${list(row.rooms)} (.ci/rooms.mjs).`,
      },
    ],
  };
}

function list(names) {
  return names.length === 0 ? 'none' : names.join(', ');
}
