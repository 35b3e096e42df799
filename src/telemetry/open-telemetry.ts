import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';
import type * as Api from '@opentelemetry/api';
import { codeOf } from '../errors.ts';
import {
  type BatchTrace,
  type SpanAttributes,
  type Tracing,
  noTracing,
} from '../lifecycle/tracing.ts';
import type { LogFields, Logger } from '../logger.ts';

/** `@opentelemetry/api`, as the application has it. */
export type OpenTelemetry = typeof Api;

const NAME = 'retention-reactor';

let loaded: { readonly api: OpenTelemetry | undefined } | undefined;

/** The optional peer; undefined: the application does not have it, and nothing is loaded. */
export function loadOpenTelemetry(): OpenTelemetry | undefined {
  loaded ??= { api: tryToLoad() };
  return loaded.api;
}

function tryToLoad(): OpenTelemetry | undefined {
  try {
    return createRequire(import.meta.url)('@opentelemetry/api') as OpenTelemetry;
  } catch {
    return undefined;
  }
}

/** The span that is under way here. Also where the application's SDK has no context manager. */
const current = new AsyncLocalStorage<Api.Span>();

/** Spans by the application's SDK: one for each batch, with its claim, its request to S3 and its settle in it. */
export function createTracing(api: OpenTelemetry | undefined): Tracing {
  if (api === undefined) return noTracing;
  const { context, trace } = api;
  const tracer = trace.getTracer(NAME);

  const within = <Result>(span: Api.Span, work: () => Promise<Result>): Promise<Result> =>
    context.with(trace.setSpan(context.active(), span), () => current.run(span, work));
  const fail = (span: Api.Span, error: unknown): void => {
    // Its words may name keys; its code does not.
    span.setStatus({ code: api.SpanStatusCode.ERROR, message: codeOf(error) ?? 'failed' });
  };
  const run = async <Result>(
    span: Api.Span,
    work: () => Promise<Result>,
    describe?: (result: Result) => SpanAttributes,
  ): Promise<Result> => {
    try {
      const result = await within(span, work);
      if (describe !== undefined) span.setAttributes(plain(describe(result)));
      return result;
    } catch (error) {
      fail(span, error);
      throw error;
    } finally {
      span.end();
    }
  };

  return {
    batch: ({ claimMilliseconds, attributes }, work) => {
      const claimedAt = Date.now();
      const startTime = claimedAt - claimMilliseconds;
      const span = tracer.startSpan('retention.batch', {
        startTime,
        attributes: plain(attributes),
      });
      const parent = trace.setSpan(context.active(), span);
      tracer.startSpan('retention.claim', { startTime }, parent).end(claimedAt);
      const batch: BatchTrace = {
        step: (name, doIt, describe) =>
          run(
            tracer.startSpan(
              `retention.${name}`,
              { kind: name === 'delete' ? api.SpanKind.CLIENT : api.SpanKind.INTERNAL },
              parent,
            ),
            doIt,
            describe,
          ),
        note: (more, isFailed) => {
          span.setAttributes(plain(more));
          if (isFailed) span.setStatus({ code: api.SpanStatusCode.ERROR });
        },
      };
      return run(span, () => work(batch));
    },
  };
}

function plain(attributes: SpanAttributes): Api.Attributes {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [`retention.${name}`, value]),
  );
}

/** A logger whose lines name the trace and the span that they were written in. */
export function withTraceContext(api: OpenTelemetry | undefined, logger: Logger): Logger {
  if (api === undefined) return logger;
  const traced = (fields: LogFields = {}): LogFields => {
    const span = current.getStore() ?? api.trace.getActiveSpan();
    const found = span?.spanContext();
    if (found === undefined || !api.isSpanContextValid(found)) return fields;
    return { ...fields, trace_id: found.traceId, span_id: found.spanId };
  };
  return {
    debug: (message, fields) => logger.debug(message, traced(fields)),
    info: (message, fields) => logger.info(message, traced(fields)),
    warning: (message, fields) => logger.warning(message, traced(fields)),
    error: (message, fields) => logger.error(message, traced(fields)),
  };
}

/** Whether the application has an SDK that takes metrics. */
export function takesMetrics(api: OpenTelemetry | undefined): api is OpenTelemetry {
  // The API has no other way to ask.
  return (
    api !== undefined && api.metrics.getMeterProvider().constructor.name !== 'NoopMeterProvider'
  );
}
