import { type Command, CommanderError } from 'commander';
import { createProgram } from '../../src/cli/program.ts';

/** A `retention ...` that a document shows, in its words. */
export interface DocumentedCommand {
  readonly words: readonly string[];
  /** In running text, `retention restore` stands for the command; in a block it would be typed. */
  readonly isWhole: boolean;
}

/** Every command line of the product in a Markdown document. */
export function commandsIn(markdown: string): readonly DocumentedCommand[] {
  const commands: DocumentedCommand[] = [];
  const running = markdown.replaceAll(
    /^( *)```(\w*)\n([\s\S]*?)^ *```/gmu,
    (_all, _indent, language, body) => {
      if (['', 'sh'].includes(String(language))) commands.push(...commandsInBlock(String(body)));
      return '';
    },
  );
  for (const [, text = ''] of running.matchAll(/`(retention [^`]+)`/gu)) {
    commands.push({ words: wordsOf(text).slice(1), isWhole: false });
  }
  return commands;
}

function commandsInBlock(body: string): DocumentedCommand[] {
  return body
    .replaceAll(/\\\n\s*/gu, ' ')
    .split('\n')
    .flatMap((line) => {
      const match = /^\s*(?:\$ )?(?:[A-Z_0-9]+=\S+ )*(?:npx )?(retention\s.*)$/u.exec(line);
      return match?.[1] === undefined ? [] : [wordsOf(match[1]).slice(1)];
    })
    .map((words) => ({ words, isWhole: true }));
}

/** As a shell would take it apart, as far as documents go: quotes, comments, where output goes. */
function wordsOf(line: string): string[] {
  const [command = ''] = line.split(/\s+(?:#|>|\|)/u);
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/gu)].map(
    ([, double, single, bare]) => double ?? single ?? bare ?? '',
  );
}

/** What the program would say against these words; undefined: it would run. */
export function refusalOf({ words, isWhole }: DocumentedCommand): string | undefined {
  const program = createProgram();
  const tame = (command: Command): void => {
    command
      .exitOverride()
      .configureOutput({ writeErr: () => undefined, writeOut: () => undefined });
    if (command.commands.length === 0) command.action(() => undefined);
    for (const child of command.commands) tame(child);
  };
  tame(program);
  try {
    program.parse(words, { from: 'user' });
    return undefined;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const isFine = error.exitCode === 0 || (!isWhole && UNFINISHED.has(error.code));
    return isFine ? undefined : error.message;
  }
}

const UNFINISHED: ReadonlySet<string> = new Set([
  'commander.help',
  'commander.missingArgument',
  'commander.missingMandatoryOptionValue',
  'commander.optionMissingArgument',
]);
