import { Command, Option } from 'commander';
import { describeCeilings, describeHabits } from '../../reactor/bucket-meaning.ts';
import { showCount } from '../../numbers.ts';
import type { Ceilings, HabitChanges, KnownBucket } from '../../store/buckets.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';
import { readWholeNumber } from '../whole-number.ts';

interface SetOptions {
  readonly keysPerRequest?: string;
  readonly single?: boolean;
  readonly together?: boolean;
  readonly checksum?: 'crc32' | 'md5' | 'none';
  readonly addressing?: 'path' | 'virtual';
  readonly conditional?: 'honour' | 'ignore';
  readonly onVersioned?: 'marker' | 'purge';
  readonly maxPerSecond?: string;
  readonly maxInFlight?: string;
  readonly by?: string;
  readonly new?: boolean;
  readonly json?: boolean;
}

/** `retention bucket list|set|forget|confirm` */
export function bucketCommand(): Command {
  const command = new Command('bucket').description(
    'How the store of a bucket differs from S3, learned or set by a person; and its ceilings.',
  );
  command
    .command('list')
    .description('List the known buckets, how their stores differ, and their ceilings.')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention bucket list')
    .action(list);
  command
    .command('set')
    .description('Set a ceiling, or what is otherwise learned. It stays until you take it back.')
    .argument('<bucket>', 'from: retention bucket list')
    .option('--keys-per-request <count>', 'the most keys of one request, 1 to 1000')
    .addOption(new Option('--single', 'delete one key with each request').conflicts(['together']))
    .option('--together', 'delete many keys with each request')
    .addOption(
      new Option('--checksum <name>', 'what a request carries').choices(['crc32', 'md5', 'none']),
    )
    .addOption(
      new Option('--addressing <style>', 'host/bucket/key or bucket.host/key').choices([
        'path',
        'virtual',
      ]),
    )
    .addOption(
      new Option(
        '--conditional <what>',
        'where rows name etags: honour deletes that version only, ignore any version',
      ).choices(['honour', 'ignore']),
    )
    .addOption(
      new Option(
        '--on-versioned <how>',
        'where S3 keeps versions: add a marker, or take all',
      ).choices(['marker', 'purge']),
    )
    .option('--max-per-second <count>', 'so many results go a second at most; none: no ceiling')
    .option(
      '--max-in-flight <count>',
      'so many batches are leased at once at most; none: no ceiling',
    )
    .option('--new', 'the bucket need not be known yet')
    .option('--by <name>', "who sets it; default: the database's user")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Listeners use it from their next batch on. \`retention bucket forget BUCKET --all\` takes back what is otherwise learned.
All listeners and commands keep a ceiling together; it stays until it is set to none.

Examples:
  $ retention bucket set dpp-results --keys-per-request 100 --checksum md5
  $ retention bucket set dpp-results --max-per-second 2000 --max-in-flight 4`,
    )
    .action(set);
  command
    .command('forget')
    .description('Forget what was learned of a bucket, so that it is learned again.')
    .argument('<bucket>', 'from: retention bucket list')
    .option('--all', 'also what was set by a person')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention bucket forget dpp-results')
    .action(forget);
  command
    .command('confirm')
    .description('Confirm that the objects that were looked for and not found are really gone.')
    .argument('<bucket>', 'the one that the status names')
    .option('--by <name>', "who confirms it; default: the database's user")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Before the first deletion in a bucket some of its keys are looked for. If most of them have no object, nothing is
flagged or claimed: the key column may hold something else, or S3_ENDPOINT_URL may name another store. If that was
wrong and is corrected, run \`retention doctor\`, which looks again. If the objects are really gone, this command
opens the gate.

Example:
  $ retention bucket confirm dpp-results`,
    )
    .action(confirm);
  return command;
}

async function list({ json }: { readonly json?: boolean }): Promise<void> {
  const { config, logger } = await readSettings('bucket');
  const { withStore } = await import('../../assembly.ts');
  const buckets = await withStore({ config, logger }, (store) => store.readBuckets());
  if (json === true) {
    printJson({ buckets });
    return;
  }
  if (buckets.length === 0) {
    printLine('None is known yet: a bucket is known once a result in it was flagged.');
    return;
  }
  printTable(
    ['bucket', 'store', 'ceiling', 'looked for', 'pauses after'],
    buckets.map((bucket) => [
      bucket.bucket,
      describeHabits(bucket.habits) || 'as S3',
      describeCeilings(bucket),
      describeLook(bucket),
      bucket.pause ?? '',
    ]),
  );
}

function describeLook({ looked, missing }: KnownBucket): string {
  if (looked === 0) return '';
  return `${showCount(looked, 'key')}, ${missing} without an object`;
}

async function set(bucket: string, options: SetOptions): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  const { keysPerRequest, single, together, checksum, addressing, conditional, onVersioned, by } =
    options;
  const most =
    keysPerRequest === undefined
      ? undefined
      : await readWholeNumber(keysPerRequest, '--keys-per-request', 1_000);
  const habits: HabitChanges = {
    ...(most === undefined ? {} : { keys_per_request: most }),
    ...(single === true ? { deletes: 'singly' } : {}),
    ...(together === true ? { deletes: 'together' } : {}),
    ...(checksum === undefined ? {} : { checksum }),
    ...(addressing === undefined ? {} : { addressing }),
    ...(conditional === undefined
      ? {}
      : { conditional: conditional === 'honour' ? 'honoured' : 'ignored' }),
  };
  const ceilings: Ceilings = {
    ...(await readCeiling('max_per_second', options.maxPerSecond, '--max-per-second')),
    ...(await readCeiling('max_in_flight', options.maxInFlight, '--max-in-flight')),
  };
  const isNew = options.new === true;
  const setsHabits = Object.keys(habits).length > 0;
  const setsCeilings = Object.keys(ceilings).length > 0;
  if (!setsHabits && !setsCeilings && onVersioned === undefined) {
    throw new UsageError('bucket set: expected what to set; given nothing', {
      remedy:
        'Name --max-per-second, --max-in-flight, --keys-per-request, --single, --together, --checksum, --addressing, --conditional or --on-versioned.',
    });
  }
  const { config, logger } = await readSettings('bucket');
  const { withStore } = await import('../../assembly.ts');
  const known = await withStore({ config, logger }, async (store) => {
    if (onVersioned !== undefined) {
      await withUsage(store.setOnVersioned(bucket, onVersioned, isNew));
    }
    if (setsHabits) await withUsage(store.setHabits(bucket, habits, { by, isNew }));
    if (setsCeilings) await withUsage(store.setCeilings(bucket, ceilings, { by, isNew }));
    return store.knownBucket(bucket);
  });
  if (options.json === true) {
    printJson({ bucket: known ?? null });
    return;
  }
  const told = [
    describeHabits(known?.habits ?? {}),
    ...(onVersioned === undefined ? [] : [`where it keeps versions: ${onVersioned}`]),
    ...(known === undefined ? [] : [describeCeilings(known) || (setsCeilings ? 'no ceiling' : '')]),
  ];
  printLine(`Bucket ${bucket}: ${told.filter(Boolean).join('; ')}.`);
}

/** A ceiling that was given, by its name; none takes it away. */
async function readCeiling(
  name: keyof Ceilings,
  given: string | undefined,
  option: string,
): Promise<Ceilings> {
  if (given === undefined) return {};
  if (given === 'none') return { [name]: null };
  return { [name]: await readWholeNumber(given, option, MOST) };
}

const MOST = 999_999_999;

async function forget(
  bucket: string,
  options: { readonly all?: boolean; readonly json?: boolean },
): Promise<void> {
  const { config, logger } = await readSettings('bucket');
  const { withStore } = await import('../../assembly.ts');
  const known = await withStore({ config, logger }, async (store) => {
    await withUsage(store.forgetHabits(bucket, options.all === true));
    return store.knownBucket(bucket);
  });
  if (options.json === true) {
    printJson({ bucket: known ?? null });
    return;
  }
  const left = describeHabits(known?.habits ?? {});
  printLine(`Bucket ${bucket}: forgotten${left === '' ? '' : `; still in force: ${left}`}.`);
}

async function confirm(
  bucket: string,
  options: { readonly by?: string; readonly json?: boolean },
): Promise<void> {
  const { config, logger } = await readSettings('bucket');
  const { withStore } = await import('../../assembly.ts');
  const reasons = await withStore({ config, logger }, async (store) => {
    await withUsage(store.confirmMissing(bucket, options.by));
    return store.readGate();
  });
  if (options.json === true) {
    printJson({ bucket, confirmed: true, reasons });
    return;
  }
  printLine(`Bucket ${bucket}: confirmed; results without an object are stamped.`);
  for (const { because, remedy } of reasons) {
    printLine(`Still nothing is flagged or claimed: ${because}. Remedy: ${remedy}`);
  }
}
