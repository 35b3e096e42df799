import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { UsageError } from '../../src/errors.ts';
import { readHeads, showHead } from '../../src/proof/heads.ts';
import type { Head } from '../../src/store/seals.ts';

const heads: Head[] = [1, 2].map((seal) => ({
  seal,
  digest: String(seal).repeat(63) + 'a',
  previous: seal === 1 ? null : '1'.repeat(63) + 'a',
  sealed_at: `2026-11-0${seal}T10:00:00.123456Z`,
  database: '11111111-1111-4111-8111-111111111111',
}));

describe('a head that --head names', () => {
  test('is a text, or a file with one, several, or the JSON of one; anything else is refused', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'retention-heads-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const [one, two] = heads.map(({ seal, digest }) => ({ seal, digest }));
    const text = heads.map((head) => showHead(head));
    const file = async (content: string): Promise<string> => {
      const path = join(folder, crypto.randomUUID());
      await writeFile(path, content);
      return path;
    };
    expect(await readHeads(text[0] ?? '')).toEqual([one]);
    expect(await readHeads(text[0]?.toUpperCase() ?? '')).toEqual([one]);
    expect(await readHeads(one?.digest ?? '')).toEqual([{ digest: one?.digest }]);
    expect(await readHeads(await file(`${text[0]}\n\n${text[1]}\n`))).toEqual([one, two]);
    const whole = ({ seal, digest, database, sealed_at }: Head) => ({
      seal,
      digest,
      database,
      sealed_at,
    });
    expect(await readHeads(await file(JSON.stringify(heads[0], null, 2)))).toEqual([
      whole(heads[0] as Head),
    ]);
    expect(
      await readHeads(await file(`${heads.map((head) => JSON.stringify(head)).join('\n')}\n`)),
    ).toEqual(heads.map((head) => whole(head)));
    for (const bad of [
      '',
      '12',
      `0-${one?.digest}`,
      `${one?.digest}0`,
      join(folder, 'none'),
      folder,
    ]) {
      await expect(readHeads(bad), bad).rejects.toThrow(UsageError);
    }
    await expect(readHeads(await file('{"seal": 1}'))).rejects.toThrow(/holds no head; expected/u);
    await expect(readHeads(await file(`${text[0]}\nhello\n`))).rejects.toThrow(/holds no head/u);
    await expect(readHeads(await file(''))).rejects.toThrow(/holds no head/u);
  });
});
