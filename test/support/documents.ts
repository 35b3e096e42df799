import { DOCUMENT_SCHEMAS, SCHEMAS, type DocumentName } from '../../src/payloads/payloads.ts';

/** The schema's name of what a command line prints; undefined: it prints no document. */
export function documentNameOf(parameters: readonly string[]): DocumentName | undefined {
  if (!parameters.includes('--json')) return undefined;
  const words = parameters.slice(0, 2).join(' ');
  return [words, parameters[0] ?? ''].find((name): name is DocumentName =>
    Object.hasOwn(DOCUMENT_SCHEMAS, name),
  );
}

/** Why a document is none of its schema; undefined: it is one. */
export function faultOf(name: keyof typeof SCHEMAS, document: unknown): string | undefined {
  const { success, error } = SCHEMAS[name].safeParse(document);
  return success
    ? undefined
    : `${name}: ${error.message}\n${JSON.stringify(document).slice(0, 2_000)}`;
}

/**
 * Holds what a command has printed against its schema, whichever test has run it.
 *
 * @throws where it is not what `retention-reactor/payloads` says.
 */
export function checkDocument(parameters: readonly string[], stdout: string): void {
  const name = documentNameOf(parameters);
  if (name === undefined || stdout.trim() === '') return;
  for (const document of documentsOf(stdout)) {
    const isError = typeof document === 'object' && document !== null && 'error' in document;
    const fault = faultOf(isError ? 'error' : name, document);
    if (fault !== undefined) throw new Error(`Not as its schema says: ${fault}`);
  }
}

/** One document, or one a line; what was cut off in its middle is none. */
function documentsOf(stdout: string): unknown[] {
  try {
    return [JSON.parse(stdout) as unknown];
  } catch {
    return stdout.split('\n').flatMap((line) => {
      if (!line.startsWith('{')) return [];
      try {
        return [JSON.parse(line) as unknown];
      } catch {
        return [];
      }
    });
  }
}
