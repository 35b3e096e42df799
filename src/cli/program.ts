import { createRequire } from 'node:module';
import { Command } from 'commander';
import { approvalCommand } from './commands/approval.ts';
import { bucketCommand } from './commands/bucket.ts';
import { certificateCommand } from './commands/certificate.ts';
import { doctorCommand } from './commands/doctor.ts';
import { explainCommand } from './commands/explain.ts';
import { fenceCommand } from './commands/fence.ts';
import { guardCommand } from './commands/guard.ts';
import { historyCommand } from './commands/history.ts';
import { haltCommand } from './commands/halt.ts';
import { holdCommand } from './commands/hold.ts';
import { initCommand } from './commands/init.ts';
import { keeperCommand } from './commands/keeper.ts';
import { listenCommand } from './commands/listen.ts';
import { migrateCommand } from './commands/migrate.ts';
import { orphansCommand } from './commands/orphans.ts';
import { policyCommand } from './commands/policy.ts';
import { proofCommand } from './commands/proof.ts';
import { reconcileCommand } from './commands/reconcile.ts';
import { restoreCommand } from './commands/restore.ts';
import { resumeCommand } from './commands/resume.ts';
import { retryCommand } from './commands/retry.ts';
import { schemaCommand } from './commands/schema.ts';
import { statusCommand } from './commands/status.ts';
import { upcomingCommand } from './commands/upcoming.ts';
import { surgeCommand } from './commands/surge.ts';
import { watchCommand } from './commands/watch.ts';
import { webhookCommand } from './commands/webhook.ts';

/**
 * Shows the help of a command of a command: the library's own `help` knows the first word alone.
 *
 * @throws CommanderError always, as its help and its errors do.
 */
export function showHelp(program: Command, words: readonly string[]): never {
  let command = program;
  for (const word of words.filter((each) => !each.startsWith('-'))) {
    const child = command.commands.find((each) => each.name() === word);
    if (child === undefined) {
      return command.error(`error: unknown command '${words.join(' ')}'`, {
        code: 'commander.unknownCommand',
      });
    }
    command = child;
  }
  return command.help();
}

/** Everything heavy is loaded by the command that needs it, so that `--help` comes at once. */
export function createProgram(): Command {
  const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
  const program = new Command('retention')
    .description('Safe, fast expiry of S3 results whose truth lives in Postgres.')
    .version(version)
    .showHelpAfterError('(see: retention --help)')
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `
Settings come from the environment (DATABASE_URL, DPP_RETENTION_DAYS, ...); see docs/settings.md.
Exit codes: 0 done, 1 something failed or is dead, 2 wrong usage or configuration,
3 refused because it was not confirmed.

Example:
  $ retention reconcile --dry-run`,
    );
  const commands = [
    initCommand,
    migrateCommand,
    listenCommand,
    reconcileCommand,
    statusCommand,
    watchCommand,
    explainCommand,
    historyCommand,
    upcomingCommand,
    policyCommand,
    holdCommand,
    approvalCommand,
    guardCommand,
    keeperCommand,
    surgeCommand,
    orphansCommand,
    bucketCommand,
    haltCommand,
    resumeCommand,
    fenceCommand,
    webhookCommand,
    retryCommand,
    restoreCommand,
    proofCommand,
    certificateCommand,
    doctorCommand,
    schemaCommand,
  ];
  for (const command of commands) program.addCommand(command());
  return program;
}
