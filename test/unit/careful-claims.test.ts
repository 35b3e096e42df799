import { describe, expect, test } from 'vitest';
import { DatabaseError, isLostSession } from '../../src/errors.ts';
import { createCarefulClaims } from '../../src/reactor/careful-claims.ts';

describe('a claim after one that was lost with its session', () => {
  const lost = new DatabaseError('terminating connection', { sqlState: '57P01' });

  function make(turns: (number | undefined)[] = [7]) {
    const asked: unknown[] = [];
    const claims = createCarefulClaims({
      takeTurn: (wanted) => {
        asked.push(wanted);
        return Promise.resolve(turns.length > 1 ? turns.shift() : turns[0]);
      },
    });
    return { claims, asked };
  }

  test('is asked for the batch whose turn was written down, and an ordinary one is not', async () => {
    const { claims, asked } = make();
    expect(await claims.turn({})).toBeUndefined();
    expect(asked).toEqual([]);
    await expect(claims.watch(() => Promise.reject(lost))).rejects.toBe(lost);
    expect(await claims.turn({ buckets: ['b'] })).toEqual([7]);
    expect(asked).toEqual([{ batchIds: undefined, buckets: ['b'] }]);
  });

  test('is asked as before where no turn can be taken', async () => {
    const { claims } = make([undefined]);
    await claims.watch(() => Promise.reject(lost)).catch(() => undefined);
    expect(await claims.turn({ batchIds: [3] })).toEqual([3]);
  });

  test('is asked as before when many have come through', async () => {
    const { claims, asked } = make();
    await claims.watch(() => Promise.reject(lost)).catch(() => undefined);
    for (let turn = 0; turn < 200; turn += 1) await claims.turn({});
    expect(asked).toHaveLength(64);
  });

  test.each([
    ['57P01', 'x', true],
    ['57P02', 'x', true],
    ['08006', 'x', true],
    ['ECONNRESET', 'x', true],
    [undefined, 'Connection terminated unexpectedly', true],
    ['55P03', 'x', false],
    ['57014', 'x', false],
    ['40P01', 'x', false],
    ['53300', 'too many connections', false],
    ['22023', 'x', false],
  ])('the session is lost by %s "%s": %s', (code, message, isLost) => {
    const error = new DatabaseError(message, { code, cause: new Error('why') });
    expect(isLostSession(new Error('outer', { cause: error }))).toBe(isLost);
  });
});
