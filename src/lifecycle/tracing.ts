/** What a span says beside its name. No key of an object and no secret is among it. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** The span of one batch. */
export interface BatchTrace {
  /** Does a part of the work in a span of its own. */
  step<Result>(
    name: 'delete' | 'settle',
    work: () => Promise<Result>,
    describe?: (result: Result) => SpanAttributes,
  ): Promise<Result>;
  /** Adds to what is known of the batch. */
  note(attributes: SpanAttributes, isFailed: boolean): void;
}

/** Makes spans. */
export interface Tracing {
  /** Does the work on a batch in a span; its claim, which has just ended, is the first one in it. */
  batch<Result>(
    claimed: { readonly claimMilliseconds: number; readonly attributes: SpanAttributes },
    work: (trace: BatchTrace) => Promise<Result>,
  ): Promise<Result>;
}

const NO_TRACE: BatchTrace = { step: (_name, work) => work(), note: () => undefined };

/** Makes none. */
export const noTracing: Tracing = { batch: (_claimed, work) => work(NO_TRACE) };
