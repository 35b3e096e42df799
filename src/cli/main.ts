#!/usr/bin/env node
import { type Command, CommanderError } from 'commander';
import { EXIT_CODE } from '../errors.ts';
import { reportCrash, reportError } from './output.ts';
import { createProgram } from './program.ts';

async function main(): Promise<void> {
  const program = createProgram();
  throwOnExit(program);
  try {
    await program.parseAsync();
  } catch (error) {
    // commander has printed its message already, also for --help and --version.
    if (error instanceof CommanderError)
      process.exitCode = error.exitCode === 0 ? EXIT_CODE.done : EXIT_CODE.usage;
    else process.exitCode = await reportError(error);
  }
}

function throwOnExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwOnExit(child);
}

// An unhandled rejection arrives here as well.
process.on('uncaughtException', (error) => void reportCrash(error));

// The reader of a pipe may stop reading, as `head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

await main();
