import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { describeError } from '../errors.ts';
import type { ListedObject } from './abilities.ts';
import { type Inventory, type InventoryFile, checkFile, refusal } from './inventory.ts';

/** Objects that are handed over at once. */
const OBJECTS_AT_ONCE = 5_000;

/**
 * The objects that an inventory lists, in its own order. Of an inventory of all versions those that are in sight. Each file
 * is checked against the manifest before it is read.
 *
 * @param prefixes only keys that begin with one of them; none: all.
 * @throws UsageError for a file that is not as S3 wrote it, or lists another bucket.
 */
export async function* readInventory(
  inventory: Inventory,
  prefixes: readonly string[],
): AsyncGenerator<readonly ListedObject[]> {
  for (const file of inventory.files) await checkFile(file);
  for (const file of inventory.files) {
    let objects: ListedObject[] = [];
    for await (const record of recordsOf(file)) {
      const object = readRecord(inventory, file, record);
      if (object === undefined) continue;
      if (prefixes.length > 0 && !prefixes.some((prefix) => object.key.startsWith(prefix)))
        continue;
      objects.push(object);
      if (objects.length < OBJECTS_AT_ONCE) continue;
      yield objects;
      objects = [];
    }
    if (objects.length > 0) yield objects;
  }
}

async function* recordsOf({ path }: InventoryFile): AsyncGenerator<readonly string[]> {
  const { parse } = await import('csv-parse');
  const parser = parse({ bom: true, skip_empty_lines: true });
  const ended = (): void => undefined;
  const source = createReadStream(path);
  // A failure of one of them is thrown by the parser.
  if (path.endsWith('.gz')) pipeline(source, createGunzip(), parser, ended);
  else pipeline(source, parser, ended);
  try {
    for await (const record of parser) yield record as readonly string[];
  } catch (error) {
    throw refusal(`${path}: expected rows in CSV; ${describeError(error)}`, error);
  }
}

/** Undefined: a version that is not in sight. */
function readRecord(
  { columns, bucket, createdAt }: Inventory,
  { path }: InventoryFile,
  record: readonly string[],
): ListedObject | undefined {
  if (record.length !== columns.length) {
    throw refusal(
      `${path}: expected the ${columns.length} columns of the manifest; given ${record.length}`,
    );
  }
  const of = (name: string): string | undefined => record[columns.indexOf(name)];
  if (of('Bucket') !== bucket) {
    throw refusal(`${path}: expected rows of bucket ${bucket}; given one of ${of('Bucket')}`);
  }
  if (of('IsLatest')?.toLowerCase() === 'false') return undefined;
  if (of('IsDeleteMarker')?.toLowerCase() === 'true') return undefined;
  const modified = new Date(of('LastModifiedDate') ?? '');
  const etag = of('ETag')?.replaceAll('"', '');
  return {
    key: decode(path, of('Key') ?? ''),
    size: Number(of('Size') ?? '') || 0,
    // It cannot be younger than the inventory.
    lastModified: Number.isNaN(modified.getTime()) ? createdAt : modified,
    etag: etag === '' ? undefined : etag,
  };
}

/** Keys are written as in a form. */
function decode(path: string, key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', ' '));
  } catch (error) {
    throw refusal(`${path}: expected keys as in URLs; given ${key}`, error);
  }
}
