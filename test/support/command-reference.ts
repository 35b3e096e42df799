import type { Command, Help } from 'commander';

/** The command reference of docs/commands.md: a heading and a block of text for each command of the program. */
export function renderReference(program: Command): string {
  const sections = program.commands.map((command) => {
    const leaves = command.commands.length > 0 ? command.commands : [command];
    const blocks = leaves.map((leaf) => renderCommand(leaf));
    const preface = leaves.includes(command) ? [] : [command.description()];
    const text = ['```text', blocks.join('\n\n'), '```'].join('\n');
    return [`### ${command.name()}`, ...preface, text].join('\n\n');
  });
  return sections.join('\n\n');
}

/** Usage, description, arguments and options, and what its help says after them. */
function renderCommand(command: Command): string {
  const help = command.createHelp();
  const terms = [
    ...help
      .visibleArguments(command)
      .map((it) => [help.argumentTerm(it), help.argumentDescription(it)] as const),
    ...ownOptions(command, help).map((it) => {
      const description = help.optionDescription(it);
      const isRequired = it.mandatory && it.defaultValue === undefined;
      return [help.optionTerm(it), isRequired ? `${description} (required)` : description] as const;
    }),
  ];
  const width = Math.max(0, ...terms.map(([term]) => term.length));
  const lines = [
    ...help.subcommandDescription(command).split('\n'),
    ...terms.map(([term, description]) => `  ${term.padEnd(width)}  ${description}`),
    ...helpAfter(command),
  ];
  return [usageOf(command, help), ...lines.map((line) => `  ${line}`)].join('\n');
}

/** Without --help, which every command has. */
function ownOptions(command: Command, help: Help) {
  return help.visibleOptions(command).filter((option) => option.long !== '--help');
}

function usageOf(command: Command, help: Help): string {
  const usage = help.commandUsage(command);
  return ownOptions(command, help).length > 0 ? usage : usage.replace(' [options]', '');
}

/** The lines of `addHelpText`, without the word Example above those that show themselves as such. */
function helpAfter(command: Command): readonly string[] {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text
    .slice(command.helpInformation().length)
    .split('\n')
    .filter((line) => line !== '' && !/^Examples?:$/u.test(line))
    .map((line) => line.replace(/^ {2}/u, ''));
}
