import { Command } from 'commander';
import { escapeControls } from '../safe-text.ts';
import { printJson, printLine } from './output.ts';

interface Options {
  readonly out?: string;
  readonly show?: boolean;
  readonly json?: boolean;
}

const VARIABLE = 'RETENTION_SIGNING_KEY_FILE';

/** `retention proof key` */
export function proofKeyCommand(): Command {
  return new Command('key')
    .description('Make the key that certificates are signed with, and print its public half.')
    .option('--out <file>', `where the private key is written; default: ${VARIABLE}`)
    .option('--show', 'make none: print the public half of the key that is there')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The private key is written with mode 0600, never overwritten, and never printed. Publish the public half
where those who check certificates can find it, and not only beside them.

Examples:
  $ retention proof key --out /etc/retention/signing-key.pem
  $ RETENTION_SIGNING_KEY_FILE=/etc/retention/signing-key.pem retention proof key --show`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const [{ UsageError }, { makeSigningKey, publicKeyOf, readSigningKey }] = await Promise.all([
    import('../errors.ts'),
    import('../proof/signing-key.ts'),
  ]);
  // Neither a database nor any other setting is asked for: a key is often made somewhere else.
  const file = options.out ?? process.env[VARIABLE]?.trim();
  if (file === undefined || file === '') {
    throw new UsageError(`proof key: expected --out FILE or ${VARIABLE}; given neither`, {
      remedy: 'Name the file that holds the private key.',
    });
  }
  const { pem, fingerprint } =
    options.show === true ? publicKeyOf(await readSigningKey(file)) : await makeSigningKey(file);
  if (options.json === true) {
    printJson({ key_file: file, public_key: pem, sha256: fingerprint });
    return;
  }
  process.stdout.write(pem);
  printLine(`SHA-256: ${fingerprint}`);
  if (options.show === true) return;
  printLine(escapeControls(`The private key is in ${file}. Set ${VARIABLE} to its whole path.`));
}
