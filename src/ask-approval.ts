import { DatabaseError, RefusedError, SQLSTATE } from './errors.ts';

/**
 * Files the request where work was refused because it needs two people, and says who does what next.
 *
 * @param ask `retention.ask_approval`
 * @returns what is to be thrown in place of the error; the error itself where it is another one.
 */
export async function askWhereRefused(
  error: unknown,
  ask: (kind: string, what: Readonly<Record<string, unknown>>) => Promise<number>,
): Promise<unknown> {
  const refusal = findRefusal(error);
  const request = refusal === undefined ? undefined : readRequest(refusal.detail);
  if (refusal === undefined || request === undefined) return error;
  let id: number;
  try {
    id = await ask(request.kind, request.what);
  } catch {
    // The refusal says more than that this role may not even ask.
    return error;
  }
  return new RefusedError(`${refusal.message}; request ${id} is filed, and nothing was changed`, {
    remedy:
      `Another person runs, within 24 hours: retention approval approve ${id}. ` +
      'Then run this command again.',
    cause: error,
  });
}

function findRefusal(error: unknown): DatabaseError | undefined {
  for (let link: unknown = error, left = 8; link instanceof Error && left > 0; left -= 1) {
    if (link instanceof DatabaseError && link.sqlState === SQLSTATE.two_people) return link;
    link = link.cause;
  }
  return undefined;
}

function readRequest(
  detail: string | undefined,
): { readonly kind: string; readonly what: Readonly<Record<string, unknown>> } | undefined {
  try {
    const { kind, what } = JSON.parse(detail ?? '') as { kind?: unknown; what?: unknown };
    if (typeof kind !== 'string' || typeof what !== 'object' || what === null) return undefined;
    return { kind, what: what as Readonly<Record<string, unknown>> };
  } catch {
    return undefined;
  }
}
