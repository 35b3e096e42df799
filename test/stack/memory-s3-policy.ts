import { S3Fault } from './memory-s3-xml.ts';

interface Statement {
  readonly effect: 'Allow' | 'Deny';
  readonly principals: readonly string[];
  readonly actions: readonly string[];
  readonly resources: readonly string[];
}

/** What a caller wants to do. `resource` is `bucket` or `bucket/key`. */
export interface PolicyQuestion {
  readonly user: string;
  readonly owner: string;
  readonly action: string;
  readonly resource: string;
}

/** A bucket policy of plain statements: effect, principal, action and resource, with wildcards. */
export class MemoryPolicy {
  readonly #statements: readonly Statement[];

  /** @throws {S3Fault} MalformedPolicy for anything else than such statements. */
  constructor(json?: string) {
    this.#statements = json === undefined ? [] : readStatements(json);
  }

  /** A denial wins; else the bucket's owner may, and others as far as they are allowed to. */
  permits(question: PolicyQuestion): boolean {
    const effects = this.#statements.filter((it) => covers(it, question)).map((it) => it.effect);
    if (effects.includes('Deny')) return false;
    return question.user === question.owner || effects.includes('Allow');
  }
}

function readStatements(json: string): Statement[] {
  const document = parse(json);
  return asList(member(document, 'Statement')).map((statement) => {
    if (member(statement, 'Condition') !== undefined) throw malformed('conditions are not known');
    const effect = member(statement, 'Effect');
    if (effect !== 'Allow' && effect !== 'Deny') throw malformed('an Effect is Allow or Deny');
    const principal = member(statement, 'Principal');
    return {
      effect,
      principals: texts(member(principal, 'AWS') ?? principal),
      actions: texts(member(statement, 'Action')),
      resources: texts(member(statement, 'Resource')),
    };
  });
}

function covers(statement: Statement, { user, action, resource }: PolicyQuestion): boolean {
  return (
    statement.principals.some((it) => it === '*' || it.endsWith(`user/${user}`)) &&
    statement.actions.some((it) => matches(it, action)) &&
    statement.resources.some((it) => matches(it.replace(/^arn:aws:s3:[^:]*:[^:]*:/, ''), resource))
  );
}

function matches(wildcard: string, text: string): boolean {
  const pattern = wildcard
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^]*')
    .replaceAll('?', '[^]');
  return new RegExp(`^${pattern}$`, 'u').test(text);
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    throw malformed('this is not JSON');
  }
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [value];
}

function texts(value: unknown): string[] {
  const list = asList(value);
  if (!list.every((it) => typeof it === 'string')) throw malformed('expected text');
  return list;
}

function malformed(message: string): S3Fault {
  return new S3Fault(400, 'MalformedPolicy', message);
}
