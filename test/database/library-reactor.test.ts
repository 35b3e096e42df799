import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as api from '@opentelemetry/api';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { expect, onTestFinished, test } from 'vitest';
import { createFolderStore, pathOf } from '../../docs/examples/folder-store.ts';
import { type RetentionEvent, createReactor, readConfig, subscribe } from '../../src/index.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { sealRuns } from '../support/proof.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { until } from '../support/until.ts';
import { startWebhookServer } from '../support/webhook-server.ts';

const BUCKET = 'dpp-results';

describeDatabase('building on it', () => {
  const database = useMigrated();

  const configOf = (more: Record<string, string> = {}) =>
    readConfig({ DATABASE_URL: database().url, S3_RESULT_BUCKET: BUCKET, ...more });

  /** Runs that are due, and their objects in a folder. */
  async function makeResults(count: number) {
    const root = await mkdtemp(join(tmpdir(), 'retention-folder-'));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
    const runIds = await database().insertRuns({ count });
    for (const runId of runIds) {
      const file = join(root, BUCKET, pathOf(`results/${runId}`));
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, 'result');
    }
    return { runIds, objects: createFolderStore(root) };
  }

  const cleared = (count: number) =>
    until(`${count} runs are cleared`, async () => (await database().countStamped()) === count);

  const channelsOf = (events: readonly RetentionEvent[]) =>
    new Set(events.map((event) => (event.type === 'notification' ? event.channel : event.type)));

  test('subscribe tells what happens, typed, and says when it listens again', async () => {
    const events: RetentionEvent[] = [];
    const logger = createRecordingLogger();
    const subscription = await subscribe({
      config: configOf(),
      logger,
      onEvent: async (event) => {
        events.push(event);
        await Promise.resolve();
        if (event.type === 'connected') throw new Error('of the handler');
      },
    });
    onTestFinished(() => subscription.stop());
    const heard = (what: string) =>
      until(`${what} is heard`, () => channelsOf(events).has(what as 'connected'), {
        seen: () => events,
      });
    await heard('connected');
    await sealRuns(database(), 1);
    await database().query(`select retention.halt('a test'); select retention.resume()`);
    await database().query(`notify retention_cleared, '{"batch":"no number"}'`);
    for (const channel of ['expired', 'cleared', 'sealed', 'attention']) {
      await heard(`retention_${channel}`);
    }
    await heard('unknown');
    const found = events.find(
      (event) => event.type === 'notification' && event.channel === 'retention_cleared',
    );
    expect(found).toMatchObject({ payload: { bucket: BUCKET, cleared: 1, spared: 0, failed: 0 } });
    expect(events.find(({ type }) => type === 'unknown')).toEqual({
      type: 'unknown',
      channel: 'retention_cleared',
      raw: '{"batch":"no number"}',
    });
    await database().query(`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'retention subscribe' and datname = current_database()`);
    await heard('reconnected');
    expect(subscription.state()).toMatchObject({ listening: true, reconnects: 1 });
    expect(logger.lines.map(({ message }) => message)).toContain('An event could not be handled');
    await Promise.all([subscription.stop(), subscription.stop()]);
  });

  test('subscribe refuses a channel that there is not', async () => {
    const onEvent = () => undefined;
    const channels = ['retention_anything' as 'retention_cleared'];
    await expect(subscribe({ config: configOf(), channels, onEvent })).rejects.toThrow(
      'expected channels of retention_expired, retention_cleared',
    );
  });

  test('a reactor makes a span for each batch, with claim, request and settle in it, and its metrics; it tells events, and a webhook that hangs delays nothing', async () => {
    const spans = new InMemorySpanExporter();
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] });
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    const meters = new MeterProvider({ readers: [reader] });
    api.trace.setGlobalTracerProvider(provider);
    api.metrics.setGlobalMeterProvider(meters);
    onTestFinished(async () => {
      api.trace.disable();
      api.metrics.disable();
      await Promise.all([provider.shutdown(), meters.shutdown()]);
    });
    const hook = await startWebhookServer();
    hook.state.answer = 'hang';
    const { objects } = await makeResults(3);
    const logger = createRecordingLogger();
    const events: RetentionEvent[] = [];
    await database().query(`select retention._tell('surge', '{"kind":"surge"}')`);
    await database().query('select retention.flag_expired()');
    const reactor = createReactor({
      config: configOf({
        RETENTION_WEBHOOK_URL: hook.url,
        RETENTION_WEBHOOK_SECRET_FILE: hook.secretFile,
      }),
      logger,
      objects,
      onEvent: (event) => void events.push(event),
    });
    onTestFinished(() => reactor.stop());
    await reactor.start();
    await until('the webhook hangs', () => hook.deliveries.length > 0);
    await cleared(3);
    await until('the batch is told', () => channelsOf(events).has('retention_cleared'), {
      seen: () => events,
    });
    expect(channelsOf(events)).toContain('connected');
    await until('the span ends', () => spans.getFinishedSpans().length >= 4);
    await meters.forceFlush();
    const before = performance.now();
    await reactor.stop();
    expect(performance.now() - before).toBeLessThan(5_000);

    const finished = spans.getFinishedSpans();
    const batch = finished.find(({ name }) => name === 'retention.batch');
    expect(batch?.attributes).toMatchObject({ 'retention.bucket': BUCKET, 'retention.cleared': 3 });
    for (const name of ['retention.claim', 'retention.delete', 'retention.settle']) {
      const span = finished.find((each) => each.name === name);
      expect(span?.parentSpanContext?.spanId, name).toBe(batch?.spanContext().spanId);
      expect(span?.spanContext().traceId, name).toBe(batch?.spanContext().traceId);
    }
    expect(
      JSON.stringify(finished.map(({ attributes, status }) => [attributes, status])),
    ).not.toContain('results/');
    const settled = logger.lines.find(({ message }) => message === 'Batch settled');
    expect(settled?.fields).toMatchObject({
      trace_id: batch?.spanContext().traceId,
      span_id: batch?.spanContext().spanId,
    });
    const metrics = exporter
      .getMetrics()
      .flatMap(({ scopeMetrics }) => scopeMetrics)
      .flatMap((scope) => scope.metrics);
    const valueOf = (name: string): unknown =>
      metrics.findLast(({ descriptor }) => descriptor.name === name)?.dataPoints[0]?.value;
    expect(valueOf('retention_cleanup_s3_objects_deleted_total')).toBe(3);
    expect(valueOf('retention_results_cleared_today')).toBe(3);
    expect(valueOf('retention_batch_duration_seconds')).toMatchObject({ count: 1 });
  });

  test('without an SDK no line names a trace, and nothing is measured twice', async () => {
    const { objects } = await makeResults(1);
    const logger = createRecordingLogger();
    const reactor = createReactor({ config: configOf(), logger, objects });
    onTestFinished(() => reactor.stop());
    await reactor.start();
    await database().query('select retention.flag_expired()');
    await cleared(1);
    await reactor.stop();
    expect(JSON.stringify(logger.lines)).not.toContain('trace_id');
  });
});
