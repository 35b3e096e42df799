import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError, describeError } from '../errors.ts';

/** An inventory that S3 made of a bucket, as its manifest tells. */
export interface Inventory {
  readonly manifest: string;
  readonly bucket: string;
  /** What it lists was so then, or before. */
  readonly createdAt: Date;
  readonly columns: readonly string[];
  readonly files: readonly InventoryFile[];
}

/** A file of an inventory's rows. */
export interface InventoryFile {
  readonly path: string;
  /** Of the file as it lies there, in hexadecimal digits. Undefined: the manifest names none. */
  readonly md5: string | undefined;
}

const REMEDY =
  "Give the manifest.json of one day's inventory, and the files that it names, as S3 has written them.";

/**
 * Reads the manifests of inventories, and finds the files that they name: among those that are given too, beside the
 * manifest, or where S3 has put them from there.
 *
 * @param paths manifests (`*.json`), and files that they name.
 * @throws UsageError for what is no inventory in CSV, or not all of it.
 */
export async function readInventories(paths: readonly string[]): Promise<readonly Inventory[]> {
  const manifests = paths.filter((path) => path.endsWith('.json'));
  const data = paths.filter((path) => !path.endsWith('.json'));
  if (manifests.length === 0) {
    throw refusal(`expected a manifest.json among the files; given ${paths.join(', ')}`);
  }
  for (const path of data) await mustExist(path);
  const inventories: Inventory[] = [];
  for (const manifest of manifests) {
    const read = await readManifest(manifest, data);
    const other = inventories.find(({ bucket }) => bucket === read.bucket);
    if (other !== undefined) {
      throw refusal(
        `expected one inventory of bucket ${read.bucket}; given ${other.manifest} and ${manifest}`,
      );
    }
    inventories.push(read);
  }
  const named = new Set(inventories.flatMap(({ files }) => files.map(({ path }) => resolve(path))));
  const stray = data.find((path) => !named.has(resolve(path)));
  if (stray !== undefined) throw refusal(`${stray}: expected a file that a given manifest names`);
  return inventories;
}

async function readManifest(path: string, data: readonly string[]): Promise<Inventory> {
  const text = await readFile(path).catch((error: unknown) => {
    throw refusal(`${path}: expected a file that can be read; ${describeError(error)}`, error);
  });
  const sum = await readFile(join(dirname(path), 'manifest.checksum'), 'utf8').catch(() => '');
  if (sum.trim() !== '' && basename(path) === 'manifest.json')
    checkSum(path, md5(text), sum.trim());
  const told = parse(path, text.toString('utf8'));
  const { sourceBucket: bucket, fileFormat: format, fileSchema: schema, files } = told;
  if (typeof format === 'string' && format.toUpperCase() !== 'CSV') {
    throw refusal(`${path}: expected an inventory in CSV; given one in ${format}`);
  }
  const createdAt = new Date(Number(told['creationTimestamp']));
  if (!(createdAt.getTime() > 0 && createdAt.getTime() <= Date.now())) {
    throw refusal(`${path}: expected a creationTimestamp of the past, in milliseconds`);
  }
  if (typeof bucket !== 'string' || typeof schema !== 'string' || !Array.isArray(files)) {
    throw refusal(`${path}: expected sourceBucket, fileSchema and files, as S3 writes them`);
  }
  const columns = schema.split(',').map((name) => name.trim());
  const lacks = ['Bucket', 'Key'].filter((name) => !columns.includes(name));
  if (lacks.length > 0) {
    throw refusal(`${path}: expected the columns Bucket and Key; given ${columns.join(', ')}`);
  }
  if (columns.includes('VersionId') && !columns.includes('IsLatest')) {
    throw refusal(`${path}: expected the column IsLatest in an inventory of all versions`);
  }
  const found: InventoryFile[] = [];
  for (const file of files as readonly unknown[]) {
    const { key, MD5checksum: sumOf } = (file ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof key !== 'string') throw refusal(`${path}: expected a key of each of its files`);
    const digest = typeof sumOf === 'string' && sumOf !== '' ? sumOf : undefined;
    found.push({ path: await findFile(path, key, data), md5: digest });
  }
  return { manifest: path, bucket, createdAt, columns, files: found };
}

function parse(path: string, text: string): Readonly<Record<string, unknown>> {
  try {
    const told: unknown = JSON.parse(text);
    if (typeof told === 'object' && told !== null) return told as Readonly<Record<string, unknown>>;
  } catch {
    // Told below.
  }
  throw refusal(`${path}: expected the manifest of an inventory, which is a JSON object`);
}

async function findFile(manifest: string, key: string, data: readonly string[]): Promise<string> {
  const name = basename(key);
  const given = data.find((path) => basename(path) === name);
  if (given !== undefined) return given;
  const folder = dirname(resolve(manifest));
  const parents = [folder];
  while (dirname(parents.at(-1) ?? '/') !== parents.at(-1))
    parents.push(dirname(parents.at(-1) ?? '/'));
  const places = [
    join(folder, name),
    join(folder, 'data', name),
    join(folder, '..', 'data', name),
    ...parents.map((parent) => join(parent, key)),
  ];
  for (const place of places) if (await exists(place)) return place;
  throw refusal(`${manifest} names ${key}, which is neither given nor beside it`);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

async function mustExist(path: string): Promise<void> {
  if (!(await exists(path))) throw refusal(`${path}: expected a file; there is none`);
}

/**
 * Looks whether a file of an inventory is what its manifest says.
 *
 * @throws UsageError
 */
export async function checkFile({ path, md5: expected }: InventoryFile): Promise<void> {
  if (expected === undefined) return;
  const hash = createHash('md5');
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  } catch (error) {
    throw refusal(`${path}: expected a file that can be read; ${describeError(error)}`, error);
  }
  checkSum(path, hash.digest('hex'), expected);
}

function md5(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex');
}

function checkSum(path: string, found: string, expected: string): void {
  if (found === expected.toLowerCase()) return;
  throw refusal(`${path}: expected the MD5 ${expected}; given ${found}: it is not as S3 wrote it`);
}

/** A clear word about an inventory that cannot be used. */
export function refusal(message: string, cause?: unknown): UsageError {
  return new UsageError(`--inventory: ${message}`, {
    remedy: REMEDY,
    ...(cause === undefined ? {} : { cause }),
  });
}
