/** What a document shows to be typed, run or read, in its order. */
export interface DocumentStep {
  /** `command`: a line for a shell; `setting`: a variable alone; `sql`: a block for psql; `text`: the rest. */
  readonly kind: 'command' | 'setting' | 'sql' | 'text';
  /** Without prompts, continuation lines and comments at the end of a line. */
  readonly text: string;
  /** What the document shows to be printed, line by line; of commands with a prompt only. */
  readonly output: readonly string[];
  /** Counted from 1. */
  readonly line: number;
}

interface Block {
  readonly language: string;
  readonly body: string;
  readonly line: number;
}

/** Every step of the fenced blocks of a Markdown document. */
export function stepsOf(markdown: string): readonly DocumentStep[] {
  return blocksOf(markdown).flatMap((block) => {
    if (block.language === 'sh') return shellSteps(block);
    if (block.language === 'sql') return [oneStep(block, 'sql')];
    if (/^\s*\$ /mu.test(block.body)) return promptedSteps(block);
    return [oneStep(block, 'text')];
  });
}

function blocksOf(markdown: string): readonly Block[] {
  const found = markdown.matchAll(/^( *)```(\w*)\n([\s\S]*?)^ *```$/gmu);
  return [...found].map(({ index, 1: indent = '', 2: language = '', 3: body = '' }) => ({
    language,
    body: body.replaceAll(new RegExp(`^${indent}`, 'gmu'), ''),
    line: markdown.slice(0, index).split('\n').length,
  }));
}

function oneStep({ body, line }: Block, kind: DocumentStep['kind']): DocumentStep {
  return { kind, text: body.trim(), output: [], line };
}

function shellSteps({ body, line }: Block): DocumentStep[] {
  const lines = body.replaceAll(/\\\n\s*/gu, '').split('\n');
  return lines.map(withoutComment).flatMap((text) => {
    if (text === '') return [];
    const isSetting = /^[A-Z_0-9]+=(?:"[^"]*"|\S*)$/u.test(text);
    return [{ kind: isSetting ? 'setting' : 'command', text, output: [], line }];
  });
}

/** `$ ` before what is typed, and what is printed below it. */
function promptedSteps({ language, body, line }: Block): DocumentStep[] {
  const steps: { text: string; output: string[] }[] = [];
  for (const shown of body.split('\n')) {
    const command = /^\s*\$ (.*)$/u.exec(shown)?.[1];
    if (command !== undefined) steps.push({ text: withoutComment(command), output: [] });
    else if (shown.trim() !== '') steps.at(-1)?.output.push(shown);
  }
  // In the command reference, what follows an example is the next command's usage.
  return steps.map(({ text, output }) => ({
    kind: 'command',
    text,
    output: language === 'text' ? [] : output,
    line,
  }));
}

function withoutComment(line: string): string {
  return line.replace(/(?:^|\s+)#.*$/u, '').trim();
}

/**
 * What stays of a line of output when the figures, times and ids in it are another day's: two lines
 * of the same shape say the same thing about something else.
 */
export function shapeOf(line: string): string {
  return line
    .replaceAll(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gu, 'ID')
    .replaceAll(/\b(?:run|Run) (?:ID|abc123|def456)\b/gu, 'run ID')
    .replaceAll(/\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|\+00)?)?/gu, 'TIME')
    .replaceAll(/\d[\d,]*/gu, '0')
    .replaceAll(/[-+]{2,}/gu, '-')
    .replaceAll(/ {2,}/gu, ' ')
    .trim();
}

/** The shapes of the lines that were printed. */
export function shapesOf(printed: string): ReadonlySet<string> {
  return new Set(printed.split('\n').map(shapeOf));
}

/** The lines of a sample that nothing printed has the shape of. */
export function linesMissing(sample: string, printed: ReadonlySet<string>): readonly string[] {
  return sample.split('\n').filter((line) => !printed.has(shapeOf(line)));
}
