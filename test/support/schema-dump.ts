import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { serverEnvironment } from '../stack/postgres-process.ts';
import { runningPostgres } from './database.ts';

const run = promisify(execFile);

/**
 * What a database consists of, as `pg_dump` writes it, without data and without what differs from
 * one dump to the next.
 *
 * @param options.schema only this one. Default: all.
 * @param options.privileges also who may do what. Default: yes.
 * @param options.data also the rows and where sequences stand. Default: no.
 */
export async function dumpSchema(
  url: string,
  options: {
    readonly schema?: string;
    readonly privileges?: boolean;
    readonly data?: boolean;
  } = {},
): Promise<string> {
  const only = [
    ...(options.schema === undefined ? [] : [`--schema=${options.schema}`]),
    ...(options.privileges === false ? ['--no-privileges'] : []),
  ];
  const { stdout } = await run(
    join(runningPostgres().binFolder, 'pg_dump'),
    [...(options.data === true ? [] : ['--schema-only']), '--no-owner', ...only, url],
    { env: serverEnvironment(), maxBuffer: 64 * 1024 * 1024 },
  );
  return stdout
    .split('\n')
    .filter((line) => !/^(?:--|SET |SELECT pg_catalog\.set_config|\\)/u.test(line))
    .join('\n')
    .replaceAll(/\n{3,}/gu, '\n\n')
    .trim();
}
