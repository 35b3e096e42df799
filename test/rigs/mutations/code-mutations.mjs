const WORKER = 'src/reactor/worker.ts';
const BATCH_ANSWER = 'src/reactor/batch-answer.ts';
const BATCH_DELETION = 'src/reactor/batch-deletion.ts';
const SETTLE_RETRY = 'src/reactor/settle-retry.ts';
const LISTENER = 'src/reactor/listener.ts';
const ASSEMBLY = 'src/assembly.ts';
const DELETING_TEST = 'test/system/deleting.test.ts';
const RECONCILE_TEST = 'test/system/reconcile.test.ts';
const REPLY_TEST = 'test/unit/s3-object-store.test.ts';
const FAILURES = 'src/objects/s3/failures.ts';
const PURGE = 'src/objects/s3/purge.ts';
const PURGE_TEST = 'test/unit/s3-abilities.test.ts';
const UNANSWERED_TEST = 'test/unit/s3-unanswered.test.ts';
const SESSION = 'src/database/session.ts';
const POOL = 'src/database/pool.ts';
const SESSIONS_TEST = 'test/database/sessions.test.ts';
const WORKER_TEST = 'test/unit/worker-failures.test.ts';
const SLOW_TEST = 'test/unit/slow-s3.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** What TypeScript does for the promises. */
export const codeMutations = [
  {
    name: 'every bucket is allowed',
    promise: 1,
    edits: one(
      'migrations/functions/09_next_batch.sql',
      '(p_buckets is null or k.bucket = any (p_buckets))',
      'true',
    ),
    testFile: 'test/system/listener.test.ts',
    test: 'leaves buckets that it is not allowed to those that may, and says that they wait',
  },
  {
    name: 'an entry of a listing without a date is old',
    promise: 1,
    edits: one(
      'src/objects/s3/listing.ts',
      'return isDate ? told : new Date();',
      'return told ?? new Date(0);',
    ),
    testFile: PURGE_TEST,
    test: 'whose entry has no date takes it for young',
  },
  {
    name: 'a bad key is taken for a limit of the store',
    promise: 6,
    edits: one(
      'src/objects/s3/in-parts.ts',
      'part.every((it) => this.#taken.has(it))',
      'part.some((it) => this.#taken.has(it))',
    ),
    testFile: 'test/unit/s3-limits.test.ts',
    test: 'is one of forty at the front, and the others are deleted',
  },
  {
    name: 'a refusal that nobody knows is counted',
    promise: 6,
    edits: one(
      'src/objects/s3/meanings.ts',
      "return kindOf(code, reason) ?? 'unavailable';",
      "return kindOf(code, reason) ?? 'denied';",
    ),
    testFile: 'test/unit/s3-meanings.test.ts',
    test: 'a code that nobody knows is tried again and not counted',
  },
  {
    name: 'nothing is looked for before the first deletion',
    promise: 3,
    edits: one(
      BATCH_DELETION,
      'lookedIn === place) return true;',
      'lookedIn !== place) return true;',
    ),
    testFile: 'test/unit/first-look.test.ts',
    test: 'looks before the first deletion in a store, and deletes nothing where objects are missing',
  },
  {
    name: 'a reconnect is no reason to look',
    promise: 2,
    edits: one(
      ASSEMBLY,
      '      teller?.caughtUp(reason);\n      listener.wake();\n',
      "      teller?.caughtUp(reason);\n      if (reason === 'connected') listener.wake();\n",
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
        search: '      teller?.caughtUp(reason);\n      listener.wake();\n',
        replace:
          "      teller?.caughtUp(reason);\n      if (reason === 'reconnected') listener.wake();\n",
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
      '    const answer = await deleteBatch(this.#options, claim, { startedAt, signal, trace });\n',
      '    await this.#options.store.settle(claim.batchId, lease, {\n      cleared: claim.keys,\n      failed: [],\n' +
        '      milliseconds: 1,\n    });\n' +
        '    const answer = await deleteBatch(this.#options, claim, { startedAt, signal, trace });\n',
    ),
    testFile: 'test/system/bad-days-crash.test.ts',
    test: '1: killed after the claim: nothing is stamped, nothing is done twice, another one finishes',
  },
  {
    name: 'what was refused is stamped',
    promise: 3,
    edits: one(
      BATCH_ANSWER,
      "return { cleared: all ? 'all' : deleted, failed: failures };",
      "return { cleared: all ? 'all' : [...deleted, ...failures.map(({ key }) => key)], failed: failures };",
    ),
    testFile: 'test/system/listener.test.ts',
    test: 'logs in the words of the operating guide',
  },
  {
    name: 'a report of some keys is taken for one of all',
    promise: 3,
    edits: one(
      BATCH_ANSWER,
      "cleared: all ? 'all' : deleted,",
      "cleared: all || deleted.length > 0 ? 'all' : deleted,",
    ),
    testFile: WORKER_TEST,
    test: 'counts only what was refused, and leaves out what has no answer',
  },
  {
    name: 'a lost reply is taken for success',
    promise: 3,
    edits: one(
      BATCH_DELETION,
      "return { kind: 'whole', failure: error, unanswered, requestIds };",
      "return { kind: 'report', report: { deleted: claim.keys, all: true, failures: [], unanswered: [] } };",
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
    name: 'a key that is both deleted and refused counts as deleted',
    promise: 3,
    edits: one(
      'src/objects/s3/deletion-reply.ts',
      '    } else failures.push(failureOfCode(key, code, error.Message));\n',
      '    } else if (reply.Deleted?.some((it) => nameOf(it) === key) === true) deleted.push(key);\n' +
        '    else failures.push(failureOfCode(key, code, error.Message));\n',
    ),
    testFile: REPLY_TEST,
    test: 'takes a key that is both deleted and refused as refused',
  },
  {
    name: 'whatever is not found counts as gone',
    promise: 3,
    edits: one(
      FAILURES,
      'return GONE_CODES.has(code);',
      "return GONE_CODES.has(code) || code !== 'NoSuchBucket';",
    ),
    testFile: 'test/unit/s3-store-habits.test.ts',
    test: 'a 404 that does not say NoSuchKey is no deletion',
  },
  {
    name: 'a reply is read in a way that does not fit the SDK',
    promise: 3,
    edits: one(
      'src/objects/s3/delete-requests.ts',
      'if (fault === undefined) return true;',
      "if (fault !== '') return true;",
    ),
    testFile: 'test/unit/s3-plain-xml-check.test.ts',
    test: ['%s is used in its own way, with one warning', 'the serializer has another name'],
  },
  {
    name: 'a purge does not look whether a version is left',
    promise: 3,
    edits: one(
      PURGE,
      'await this.#each(gone, (state)',
      'await this.#each(gone.slice(0, 0), (state)',
    ),
    testFile: PURGE_TEST,
    test: 'a version written while its key is purged keeps the key from counting',
  },
  {
    name: 'a version that the reply leaves out counts as purged',
    promise: 3,
    edits: one(
      PURGE,
      'for (const it of unnamed) this.#refuse(it,',
      'for (const it of unnamed.slice(0, 0)) this.#refuse(it,',
    ),
    testFile: PURGE_TEST,
    test: 'a version that the reply leaves out is not purged, and its key keeps the current one',
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
    edits: one(
      BATCH_ANSWER,
      "answer.kind === 'report' ? answer.report.unanswered : answer.unanswered;",
      "answer.kind === 'report' ? answer.report.unanswered : [];",
    ),
    testFile: 'test/system/bad-days-late.test.ts',
    test: 'a request that timed out: the hold says that it may be too late',
  },
  {
    name: 'a listener keeps to itself what an earlier attempt left open',
    promise: 5,
    edits: one(
      BATCH_ANSWER,
      "answer.kind === 'report' ? answer.report.unanswered : answer.unanswered;",
      "answer.kind === 'report' ? [] : answer.unanswered;",
    ),
    testFile: WORKER_TEST,
    test: 'that names every key clears the batch, without sending a key back',
  },
  {
    name: 'a gateway that gives up speaks for S3',
    promise: 5,
    edits: one(
      FAILURES,
      'return (httpStatus >= 300 && httpStatus < 500) ||',
      'return httpStatus >= 300 ||',
    ),
    testFile: UNANSWERED_TEST,
    test: ['is one that %s', 'was answered by a gateway'],
  },
  {
    name: 'a connection that breaks was never made',
    promise: 5,
    edits: one(FAILURES, '/^(?:EAI_AGAIN|', '/^(?:ECONNRESET|EAI_AGAIN|'),
    testFile: UNANSWERED_TEST,
    test: ['is one that %s', 'was cut off'],
  },
  {
    name: 'a key that the reply does not name was answered for',
    promise: 5,
    edits: one(
      'src/objects/s3/deletion.ts',
      'for (const key of unnamed) call.unanswered.add(key);',
      'for (const key of unnamed) call.unanswered.delete(key);',
    ),
    testFile: UNANSWERED_TEST,
    test: 'is told by key',
  },
  {
    name: 'a refused request is not halved',
    promise: 6,
    edits: one(
      WORKER,
      "answer.failure.concerns === 'key' && claim.keys.length > 1)",
      "answer.failure.concerns === 'key' && claim.keys.length > 1_000)",
    ),
    testFile: DELETING_TEST,
    test: 'promise 6: a key for which a request is refused whole ends up alone',
  },
  {
    name: 'a request that failed counts against each result',
    promise: 6,
    edits: one(
      WORKER,
      "answer.failure.outcome !== 'refused') {",
      "answer.failure.outcome === 'unknown') {",
    ),
    testFile: WORKER_TEST,
    test: ['and is %s waits, and counts for nothing', 'failed'],
  },
  {
    name: 'a throttled key is a refused one',
    promise: 6,
    edits: one(FAILURES, "throttled: { outcome: 'failed',", "throttled: { outcome: 'refused',"),
    testFile: REPLY_TEST,
    test: 'tells the faults of keys from those of the store, and takes gone for deleted',
  },
  {
    name: 'a right that is missing in the whole bucket is the fault of each key',
    promise: 6,
    edits: one(
      'src/objects/s3/deletion.ts',
      'const told = isWhole ? withBucketRefusal(failures) : failures;',
      'const told = isWhole ? withBucketRefusal(failures.slice(0, 1)) : failures;',
    ),
    testFile: REPLY_TEST,
    test: 'that refuses every one of several keys for want of a right concerns the bucket',
  },
  {
    name: 'one key that breaks the store holds up the others',
    promise: 6,
    edits: one(
      'src/objects/s3/deletion.ts',
      "return kind === 'credentials' || kind === 'no-bucket';",
      "return kind === 'credentials' || kind === 'no-bucket' || kind === 'unavailable';",
    ),
    testFile: 'test/unit/s3-store-habits.test.ts',
    test: 'one key that always breaks the store holds up no other',
  },
  {
    name: 'a transaction stays open over the call of S3',
    promise: 7,
    edits: [
      {
        file: 'src/store/leases.ts',
        search: '    cross join lateral retention.claim(l.lease,',
        replace:
          '    cross join pg_advisory_xact_lock(0) cross join lateral retention.claim(l.lease,',
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
      '      if (safeNow() > this.#endsAt) return Promise.reject(tooLate());\n',
      '      if (this.#endsAt === 0) return Promise.reject(tooLate());\n',
    ),
    testFile: 'test/unit/s3-deadlines.test.ts',
    test: 'sends nothing after its last moment, when its process was stopped until then',
  },
  {
    name: 'a lease goes by the monotonic clock alone',
    promise: 8,
    edits: one(
      'src/lifecycle/clock.ts',
      'if (ahead > DRIFT_MILLISECONDS) suspended += ahead;',
      'if (ahead > Infinity) suspended += ahead;',
    ),
    testFile: 'test/unit/s3-deadlines.test.ts',
    test: 'sends no second attempt when the machine was suspended after the first, until the lease was over',
  },
  {
    name: 'a session is not set',
    promise: 2,
    edits: one(SESSION, '`and pg_backend_pid() = ${pid}`', '`and pg_backend_pid() = -${pid}`'),
    testFile: SESSIONS_TEST,
    test: 'each setting that matters is ours',
  },
  {
    name: 'what a session has is not read back',
    promise: 2,
    edits: one(
      SESSION,
      'if (!isPooled && answer.differing.length > 0) {',
      'if (!isPooled && answer.differing.length > 1_000) {',
    ),
    testFile: SESSIONS_TEST,
    test: 'a session that did not take one of our settings is refused, and the setting is named',
  },
  {
    name: 'the settings of a session reach the other clients of a pooler',
    promise: 2,
    edits: one(
      SESSION,
      'select set_config(s.name, s.value, true)',
      'select set_config(s.name, s.value, false)',
    ),
    testFile: SESSIONS_TEST,
    test: 'behind a transaction pooler as well, and nothing of it reaches its other clients',
  },
  {
    name: 'a session that cannot write is kept',
    promise: 2,
    edits: one(
      POOL,
      'if (isSilence(error) || isReadOnly(error)) this.#renew',
      'if (isSilence(error)) this.#renew',
    ),
    testFile: SESSIONS_TEST,
    test: 'is ended and replaced, and the pool says so, until the server takes writes again',
  },
  {
    name: 'an idle session is trusted to write',
    promise: 2,
    edits: one(
      POOL,
      'const TRUSTED_MILLISECONDS = 5_000;',
      'const TRUSTED_MILLISECONDS = Infinity;',
    ),
    testFile: SESSIONS_TEST,
    test: 'an idle session is asked before it is used again, also for what only reads',
  },
  {
    name: 'another database is as good as the first',
    promise: 1,
    edits: one(POOL, '      this.#identity.check(identity);\n', ''),
    testFile: SESSIONS_TEST,
    test: 'an address that leads to another server from now on stops the pool, and says which',
  },
  {
    name: 'S3 may be asked for as long as the lease',
    promise: 8,
    edits: one(
      BATCH_DELETION,
      'const SETTLE_SHARE_OF_LEASE = 0.1;',
      'const SETTLE_SHARE_OF_LEASE = 0;',
    ),
    testFile: SLOW_TEST,
    test: 'is given up while a part of the lease is left, and the batch is left to run out',
  },
  {
    name: 'S3 is asked however long the claim has taken',
    promise: 8,
    edits: one(BATCH_DELETION, 'if (left <= 0) return', 'if (left <= -60_000) return'),
    testFile: SLOW_TEST,
    test: 'is not asked where the claim itself has taken that long',
  },
  {
    name: 'a settle is tried again after its lease',
    promise: 8,
    edits: one(SETTLE_RETRY, 'safeNow() + wait > endsAt;', 'safeNow() + wait > endsAt + 60_000;'),
    testFile: 'test/unit/settling.test.ts',
    test: 'ends with the lease, which others may have after that',
  },
  {
    name: 'a payload is trusted',
    promise: 9,
    edits: one(
      ASSEMBLY,
      '    onNotification: (channel, payload, raw) => {\n',
      '    onNotification: (channel, payload, raw) => {\n' +
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
      '      ...settled,\n      failed',
      '      ...settled,\n      cleared: claim.keys.length,\n      failed',
    ),
    testFile: 'test/system/telemetry.test.ts',
    test: 'counts exactly what happened',
  },
  {
    name: 'a starting listener tells the last pass',
    promise: 12,
    edits: one(
      LISTENER,
      'this.#lastScanId ??= pulse.lastScanId;',
      'this.#lastScanId ??= pulse.lastScanId - 1;',
    ),
    testFile: 'test/database/listener-news.test.ts',
    test: 'a starting listener does not repeat the last pass as news, and tells the next one once',
  },
  {
    name: 'a failure that goes on is a line each time',
    promise: 12,
    edits: one(
      'src/lifecycle/failure-log.ts',
      'logger[isNews ? level : ',
      'logger[isNews || level ? level : ',
    ),
    testFile: 'test/unit/one-line.test.ts',
    test: 'is said ever more rarely, with how often and since when, and once when it is over',
  },
  {
    name: 'a date that no calendar has is read as one',
    promise: 12,
    edits: one(
      'src/database/value-types.ts',
      'if (!(date instanceof Date)) return text;',
      'if (!(date instanceof Date)) return new Date(Number.NaN);',
    ),
    testFile: 'test/database/shown-dates.test.ts',
    test: '"kept for ever" is said so',
  },
];
