#!/usr/bin/env node
import { type Command, CommanderError } from 'commander';
import { EXIT_CODE } from '../errors.ts';
import { printJsonError, reportCrash, reportError } from './output.ts';
import { watchPatience } from './patience.ts';
import { createProgram, showHelp } from './program.ts';

/** Looked for before the arguments are read, since what is wrong may be an argument. */
const isJson = process.argv.slice(2).includes('--json');

async function main(): Promise<void> {
  const program = createProgram();
  throwOnExit(program);
  const patience = watchPatience(program);
  try {
    const [first, ...words] = process.argv.slice(2);
    if (first === 'help') showHelp(program, words);
    await program.parseAsync();
  } catch (error) {
    // commander has printed its message already, also for --help and --version.
    if (!(error instanceof CommanderError)) process.exitCode = await reportError(error, isJson);
    else if (error.exitCode === 0) process.exitCode = EXIT_CODE.done;
    else {
      process.exitCode = EXIT_CODE.usage;
      const message = error.message.replace(/^error: /u, '');
      if (isJson) printJsonError({ code: 'USAGE', message, exitCode: EXIT_CODE.usage });
    }
  } finally {
    patience.end();
  }
}

function throwOnExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwOnExit(child);
}

// An unhandled rejection arrives here as well.
process.on('uncaughtException', (error) => void reportCrash(error, isJson));

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader of a pipe may stop reading, as `head` does: what was done stays done.
  if (error.code === 'EPIPE') process.exit();
  process.stderr.write(`error: stdout cannot be written: ${error.code ?? error.message}\n`);
  process.exit(EXIT_CODE.failed);
});

await main();
