import { Command } from 'commander';
import { showCount, showNumber } from '../../numbers.ts';
import type { Certificate } from '../../proof/certificate.ts';
import { escapeControls } from '../../safe-text.ts';
import { collect, refuseEmpty } from '../narrowing.ts';
import { printJson, printLine } from '../output.ts';
import { createProgress } from '../progress.ts';
import { readMoment } from '../moment.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface Options {
  /** False: of results that have none. */
  readonly tenant?: string | false;
  readonly from?: string;
  readonly to?: string;
  readonly out?: string;
  readonly keys: boolean;
  readonly note?: readonly string[];
  readonly json?: boolean;
}

/** `retention certificate` */
export function certificateCommand(): Command {
  return new Command('certificate')
    .description('Certify what fell due of a tenant in a period, and what became of it; signed.')
    .option('--tenant <id>', 'the tenant')
    .option('--no-tenant', 'instead of a tenant: results without one')
    .option(
      '--from <time>',
      'when the period begins: a day in UTC, or a time such as 2026-01-31T09:00:00Z',
    )
    .option(
      '--to <time>',
      'the first moment that is no longer in it; of whole days the day after the last',
    )
    .option('--out <folder>', 'where it is written: a folder that is new or empty')
    .option('--no-keys', 'show no key of any object')
    .option(
      '--note <text>',
      'what it does not cover beside, in your words; may be said several times',
      collect,
    )
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
RETENTION_SIGNING_KEY_FILE names the key that it is signed with; \`retention proof key\` makes one.
The folder holds certificate.json, certificate.html to print, results.csv, and CHECK.md, which says how to
check all of it without this product.

Examples:
  $ retention certificate --tenant tenant_abc --from 2025-01-01 --to 2025-04-01 --out tenant_abc-2025-q1
  $ retention certificate --no-tenant --from 2025-01-01 --to 2025-02-01 --out 2025-01 --no-keys`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  const { tenant, from, to, out, keys, note: notes } = options;
  if (tenant === undefined || from === undefined || to === undefined || out === undefined) {
    throw new UsageError(
      'certificate: expected --tenant (or --no-tenant), --from, --to and --out',
      {
        remedy:
          'Say whose results, of which time, and where the certificate is written. None of these has a default.',
      },
    );
  }
  await refuseEmpty({
    '--tenant': tenant === false ? undefined : tenant,
    '--out': out,
    '--note': notes,
  });
  const period = { from: await readMoment(from, '--from'), to: await readMoment(to, '--to') };
  const { config, logger } = await readSettings('certificate');
  const [{ certify }, { watchStopSignals }] = await Promise.all([
    import('../../assembly-certificates.ts'),
    import('../../lifecycle/signals.ts'),
  ]);
  const signals = watchStopSignals();
  const progress = await createProgress();
  const certifying = certify({
    config,
    logger,
    tenant: tenant === false ? null : tenant,
    ...period,
    out,
    keys,
    notes,
    signal: signals.signal,
    onProgress: progress.update,
  });
  const certificate = await withUsage(certifying).finally(() => {
    progress.end();
    signals.dispose();
  });
  if (options.json === true) printJson({ folder: out, ...certificate });
  else print(out, certificate);
}

function print(out: string, certificate: Certificate): void {
  const { population, gone, head, not_sealed: notSealed, receipt_keys: keys } = certificate;
  const say = (line: string): void => printLine(escapeControls(line));
  say(`${showCount(population.counted, 'result')} fell due, and ${out} says what became of each:`);
  for (const [category, count] of Object.entries(population.results)) {
    if (count > 0) say(`  ${showNumber(count).padStart(9)}  ${category.replaceAll('_', ' ')}`);
  }
  say(`Difference: ${population.difference}`);
  if (gone.first !== null) say(`Gone between ${gone.first} and ${gone.last}`);
  if (notSealed > 0)
    say(`${showCount(notSealed, 'receipt')} not sealed yet: nothing proves them so far`);
  if (keys === 'hashed') say('No key is shown: receipts keep digests of keys (receipt_keys)');
  say(head === null ? 'Nothing is sealed yet' : `It hangs on the head ${head.seal}-${head.digest}`);
  say(`To check it: ${out}/CHECK.md`);
}
