import type { DeletionReport } from '../objects/deletion-report.ts';
import type { StoreFailure } from '../objects/store-failure.ts';
import type { Claim, Failure } from '../store/leases.ts';

/** What S3 answered, or why it was not asked. */
export type Answer =
  | { readonly kind: 'report'; readonly report: DeletionReport }
  | {
      readonly kind: 'whole';
      readonly failure: StoreFailure;
      readonly unanswered: readonly string[];
      readonly requestIds: readonly string[];
      /** No request was sent. */
      readonly unasked?: true;
    };

/** Why a batch is not sent to S3. */
export function notAsked(
  failure: Pick<StoreFailure, 'code' | 'reason'> & Partial<StoreFailure>,
): Extract<Answer, { kind: 'whole' }> {
  const defaults = { outcome: 'failed', concerns: 'bucket', final: false } as const;
  return {
    kind: 'whole',
    failure: { ...defaults, ...failure },
    unanswered: [],
    requestIds: [],
    unasked: true,
  };
}

/** The keys that S3 may still delete, whatever it came to. */
export function unansweredOf(answer: Answer): readonly string[] {
  return answer.kind === 'report' ? answer.report.unanswered : answer.unanswered;
}

/** Which keys are cleared and which failed; what is in neither was not answered for. */
export function sortOut(
  claim: Claim,
  answer: Answer,
): { readonly cleared: readonly string[] | 'all'; readonly failed: readonly Failure[] } {
  if (answer.kind === 'report') {
    const { all, deleted, failures } = answer.report;
    return { cleared: all ? 'all' : deleted, failed: failures };
  }
  const { code, reason, outcome, concerns, final } = answer.failure;
  const failed = claim.keys.map((key) => ({ key, code, reason, outcome, concerns, final }));
  return { cleared: [], failed };
}
