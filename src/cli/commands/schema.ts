import { Command } from 'commander';
import { printJson, printLine } from '../output.ts';

/** `retention schema` */
export function schemaCommand(): Command {
  return new Command('schema')
    .description('The JSON Schema of a notification, of a document of --json, or of a message.')
    .argument('[name...]', 'of what; default: all names, one a line')
    .addHelpText(
      'after',
      '\nExamples:\n  $ retention schema\n  $ retention schema hold list\n  $ retention schema retention_attention',
    )
    .action(schema);
}

async function schema(words: readonly string[]): Promise<void> {
  const { SCHEMA_NAMES, jsonSchema } = await import('../../payloads/payloads.ts');
  if (words.length === 0) {
    for (const each of SCHEMA_NAMES) printLine(each);
    return;
  }
  const given = words.join(' ');
  const name = SCHEMA_NAMES.find((each) => each === given);
  if (name !== undefined) {
    printJson(jsonSchema(name));
    return;
  }
  const { UsageError } = await import('../../errors.ts');
  throw new UsageError(`schema: expected one of the names; given "${given}"`, {
    remedy: 'See them with: retention schema',
  });
}
