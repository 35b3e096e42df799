import { Command } from 'commander';

/** `retention demo` */
export function demoCommand(): Command {
  return new Command('demo')
    .description('Show the main job on a private, throw-away stack.')
    .option('--keep', 'leave the stack up and print the commands to play with')
    .addHelpText('after', '\nExample:\n  $ retention demo')
    .action(async (options: { readonly keep?: boolean }) => {
      const { runDemo } = await import('../../demo/tour.ts');
      process.exitCode = await runDemo({ keep: options.keep === true });
    });
}
