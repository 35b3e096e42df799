import { Command } from 'commander';
import { proofKeyCommand } from './proof-key.ts';

/** `retention proof` */
export function proofCommand(): Command {
  return new Command('proof')
    .description('Prove what went.')
    .addCommand(proofKeyCommand())
    .addHelpText('after', '\nExample:\n  $ retention proof key --out signing-key.pem');
}
