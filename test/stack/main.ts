// `npm run demo -- [--keep]`: the guided tour.
import { parseArgs } from 'node:util';
import { RetentionError } from '../../src/errors.ts';
import { runDemo } from './tour.ts';

const USAGE = 2;

function readOptions(): { readonly keep: boolean } {
  try {
    const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });
    return values;
  } catch (error) {
    console.error(
      `${error instanceof Error ? error.message : String(error)}\n` +
        'Usage: npm run demo -- [--keep]\n' +
        '  --keep  leave the stack up and print the commands to play with',
    );
    process.exit(USAGE);
  }
}

// A reader may stop reading, as `head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

try {
  process.exitCode = await runDemo(readOptions());
} catch (error) {
  console.error(error instanceof RetentionError ? `Error: ${error.message}` : error);
  process.exitCode = 1;
}
