const WORKER = 'src/reactor/worker.ts';
const LISTENER = 'src/reactor/listener.ts';
const ASSEMBLY = 'src/assembly.ts';
const DELETING_TEST = 'test/system/deleting.test.ts';
const RECONCILE_TEST = 'test/system/reconcile.test.ts';
const REPLY_TEST = 'test/unit/s3-object-store.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** What TypeScript does for the promises. */
export const codeMutations = [
  {
    name: 'every bucket is allowed',
    promise: 1,
    edits: one(
      WORKER,
      'if (allowedBuckets.length > 0 && !allowedBuckets',
      'if (allowedBuckets.length > 1_000 && !allowedBuckets',
    ),
    testFile: 'test/system/listener.test.ts',
    test: 'refuses buckets that it is not allowed, for good and in a list',
  },
  {
    name: 'a reconnect is no reason to look',
    promise: 2,
    edits: one(
      ASSEMBLY,
      'onCaughtUp: () => listener.wake(),',
      "onCaughtUp: (how) => {\n      if (how === 'connected') listener.wake();\n    },",
    ),
    testFile: DELETING_TEST,
    test: 'promise 2: what was announced while no session listened is taken up on reconnecting',
  },
  {
    name: 'a start is no reason to look',
    promise: 2,
    edits: [
      {
        file: ASSEMBLY,
        search: 'onCaughtUp: () => listener.wake(),',
        replace:
          "onCaughtUp: (how) => {\n      if (how === 'reconnected') listener.wake();\n    },",
      },
      {
        file: LISTENER,
        search: '    this.#isPrepared = true;\n',
        replace:
          '    const isFirst = !this.#isPrepared;\n    this.#isPrepared = true;\n' +
          '    if (isFirst) return this.#options.pollSeconds * 1_000;\n',
      },
    ],
    testFile: DELETING_TEST,
    test: 'promise 2: what was flagged before a listener started is taken up at its start',
  },
  {
    name: 'a silent scheduler is left alone',
    promise: 2,
    edits: one(LISTENER, "    await this.#options.store.tick('listener');\n", ''),
    testFile: 'test/system/real-tick.test.ts',
    test: 'that stays away is noticed, and the listener flags by itself',
  },
  {
    name: 'a listener does not ask for the next pass',
    promise: 2,
    edits: one(
      LISTENER,
      '} else if (pulse.more) {',
      '} else if (pulse.more && this.#saidSilent) {',
    ),
    testFile: 'test/system/listener.test.ts',
    test: 'asks for the next pass at once when the last one hit its limit',
  },
  {
    name: 'what was sent is stamped before the reply',
    promise: 3,
    edits: one(
      WORKER,
      '    const answer = await this.#delete(claim, startedAt, abort);\n',
      '    await store.settle(claim.batchId, lease, {\n      cleared: claim.runIds,\n      failed: [],\n' +
        '      milliseconds: 1,\n    });\n' +
        '    const answer = await this.#delete(claim, startedAt, abort);\n',
    ),
    testFile: 'test/system/bad-days-crash.test.ts',
    test: '1: killed after the claim: nothing is stamped, nothing is done twice, another one finishes',
  },
  {
    name: 'what was refused is stamped',
    promise: 3,
    edits: one(WORKER, 'if (deleted.has(key)) {', 'if (deleted.has(key) || byKey.has(key)) {'),
    testFile: 'test/system/listener.test.ts',
    test: 'logs in the words of the operating guide',
  },
  {
    name: 'a lost reply is taken for success',
    promise: 3,
    edits: one(
      WORKER,
      'if (error instanceof ObjectStoreError) return answerTo(error);',
      'if (error instanceof ObjectStoreError)\n' +
        "        return { kind: 'report', report: { deleted: claim.keys, all: true, failures: [], unanswered: [] } };",
    ),
    testFile: RECONCILE_TEST,
    test: 'exits with 1 when S3 cannot be reached, for then nothing is done',
  },
  {
    name: 'a key that the reply does not name counts as deleted',
    promise: 3,
    edits: one(
      'src/objects/s3/deletion.ts',
      'return { deleted, failures: [...told, ...unknown], again: [] };',
      'return { deleted: [...deleted, ...unknown.map(({ key }) => key)], failures: told, again: [] };',
    ),
    testFile: REPLY_TEST,
    test: 'leaves a key unanswered that it does not name',
  },
  {
    name: 'an empty reply counts as success',
    promise: 3,
    edits: one(
      'src/objects/s3/deletion.ts',
      '  const noBucket = failures.find(',
      '  if (deleted.length + failures.length === 0 && !keyless) {\n' +
        '    return { deleted: unnamed, failures, again: [] };\n  }\n' +
        '  const noBucket = failures.find(',
    ),
    testFile: REPLY_TEST,
    test: ['that is %s is no answer to the request as a whole', 'an empty body'],
  },
  {
    name: 'a reply that names as many keys names each',
    promise: 3,
    edits: one(
      'src/objects/s3/plain-xml.ts',
      'if (request[from] !== reply[at]) return false;',
      'if (reply[at] === LESS_THAN) return false;',
    ),
    testFile: 'test/unit/s3-plain-xml.test.ts',
    test: 'and every place of it counts',
  },
  {
    name: 'any answer to a single key counts as success',
    promise: 3,
    edits: one(
      'src/objects/s3/delete-requests.ts',
      '(status === 200 && requestId !== undefined)) return answer;',
      'status === 200) return answer;',
    ),
    testFile: REPLY_TEST,
    test: ['is not deleted by %s', 'an empty 200'],
  },
  {
    name: 'an attempt that got no answer is forgotten once another has one',
    promise: 5,
    edits: one(
      'src/objects/s3/attempts.ts',
      '      if (isSent) this.#unanswered -= 1;',
      '      if (isSent) this.#unanswered = 0;',
    ),
    testFile: 'test/unit/s3-unanswered.test.ts',
    test: ['is also an earlier attempt of one that is then %s', 'refused'],
  },
  {
    name: 'a listener keeps to itself what S3 did not answer',
    promise: 5,
    edits: one(WORKER, 'if (wanted.length === 0) return [];', 'if (wanted.length >= 0) return [];'),
    testFile: 'test/system/bad-days-late.test.ts',
    test: 'a request that timed out: the hold says that it may be too late',
  },
  {
    name: 'a refused request is not halved',
    promise: 6,
    edits: one(
      WORKER,
      "answer.kind === 'malformed' && claim.keys.length > 1)",
      "answer.kind === 'malformed' && claim.keys.length > 1_000)",
    ),
    testFile: DELETING_TEST,
    test: 'promise 6: a key for which a request is refused whole ends up alone',
  },
  {
    name: 'a transaction stays open over the call of S3',
    promise: 7,
    edits: [
      {
        file: 'src/store/leases.ts',
        search: '    from retention.claim($1::uuid,',
        replace: '    from pg_advisory_xact_lock(0), retention.claim($1::uuid,',
      },
      {
        file: 'src/database/pool.ts',
        search: 'const result = await client.query<Row & pg.QueryResultRow>(query);\n',
        replace:
          "if (text.includes('retention.claim(')) await client.query('begin');\n" +
          '          const result = await client.query<Row & pg.QueryResultRow>(query);\n' +
          "          if (text.includes('retention.claim(')) setTimeout(() => void client.query('commit'), 3_000);\n",
      },
      {
        file: 'src/database/pool.ts',
        search: "client.release(!isReusable || client.getTransactionStatus() !== 'I');",
        replace:
          "if (client.getTransactionStatus() === 'T') setTimeout(() => client.release(), 4_000);\n" +
          '      else client.release(!isReusable);',
      },
    ],
    testFile: DELETING_TEST,
    test: 'promise 7: no transaction is open and no lock held while S3 is called',
  },
  {
    name: 'a request is sent whatever the time',
    promise: 8,
    edits: one(
      'src/objects/s3/attempts.ts',
      '      if (performance.now() > this.#endsAt) return Promise.reject(tooLate());\n',
      '      if (this.#endsAt === 0) return Promise.reject(tooLate());\n',
    ),
    testFile: 'test/unit/s3-deadlines.test.ts',
    test: 'sends nothing after its last moment, when its process was stopped until then',
  },
  {
    name: 'a payload is trusted',
    promise: 9,
    edits: one(
      ASSEMBLY,
      '    onNotification: () => {\n      telemetry?.countNotification();\n',
      '    onNotification: (_channel, payload) => {\n      telemetry?.countNotification();\n' +
        '      const { run_ids: runIds = [] } = (payload ?? {}) as { run_ids?: string[] };\n' +
        "      void database.query('update retention.result set cleared_at = now() where run_id::text = any ($1)', [runIds]);\n",
    ),
    testFile: 'test/system/listener.test.ts',
    test: 'promise 9: no payload, however garbled, huge or hostile, changes anything',
  },
  {
    name: 'counters count what was asked',
    promise: 12,
    edits: one(
      WORKER,
      '      ...settled,\n      crowded',
      '      ...settled,\n      cleared: claim.runIds.length,\n      crowded',
    ),
    testFile: 'test/system/telemetry.test.ts',
    test: 'counts exactly what happened',
  },
];
