import { describe, expect, test } from 'vitest';
import { check, type Evidence } from '../rigs/chaos/checker.ts';
import type { Deletion } from '../rigs/chaos/deletion-record.ts';
import type { History, Hold, Item, Lease, RunState, Version } from '../rigs/chaos/history.ts';

// A run that became due at 1,000, was claimed at 2,000 and deleted at 2,100: all as it should be.
const RETAIN_MS = 500;
const run: RunState = {
  runId: 'run',
  tenantId: 'acme',
  status: 'COMPLETED',
  completedAt: 500,
  bucket: 'b',
  key: 'k',
  clearedAt: undefined,
};
const item: Item = { runId: 'run', batchId: '1', bucket: 'b', key: 'k' };
const lease: Lease = {
  batchId: '1',
  lease: 'x',
  writtenAt: 2_000,
  committedAt: 2_010,
  deadline: 12_000,
  endedAt: 2_200,
  tookFromValid: false,
};
const deletion: Deletion = {
  bucket: 'b',
  key: 'k',
  arrivedAt: 2_050,
  arrivedFrom: 2_045,
  doneAt: 2_100,
  toldGoneAt: 2_110,
};
const stamp = { runId: 'run', bucket: 'b', key: 'k', committedAt: 2_200 };

function since<T>(state: T, from: number, until = Infinity): Version<T> {
  return { state, from, surelyFrom: from + 5, until, surelyUntil: until + 5 };
}

function evidence(history: Partial<History> = {}, more: Partial<Evidence> = {}): Evidence {
  return {
    history: {
      runs: new Map([['run', [since(run, 600, 2_200)]]]),
      stamps: [stamp],
      items: new Map([['b/k', [since(item, 1_500, 2_200)]]]),
      leases: new Map([['1', [lease]]]),
      holds: [],
      policies: new Map([['*', [since(RETAIN_MS, 0)]]]),
      settledCleared: 1,
      itemsSettled: 1,
      foreignChanges: [],
      ...history,
    },
    deletions: [deletion],
    puts: new Map([['b/k', [400]]]),
    tooLate: new Map(),
    ...more,
  };
}

function hold(from: number, releasedFrom = Infinity): Hold {
  return {
    holdId: '7',
    runId: 'run',
    tenantId: undefined,
    from,
    surelyFrom: from + 5,
    releasedFrom,
  };
}

const promisesOf = (given: Evidence): string[] =>
  check(given).map(({ promise }) => promise.slice(0, 2).replace(':', ''));

describe('the checker of campaigns', () => {
  test('finds nothing where all was as it should be', () => {
    expect(check(evidence())).toEqual([]);
  });

  test.each<readonly [what: string, promise: string, given: Evidence]>([
    ['a run that was not due', '1', evidence({ policies: new Map([['*', [since(5_000, 0)]]]) })],
    [
      "a run that its tenant's policy kept",
      '1',
      evidence({
        policies: new Map([
          ['*', [since(RETAIN_MS, 0)]],
          ['acme', [since(5_000, 0)]],
        ]),
      }),
    ],
    ['a run under a hold', '1', evidence({ holds: [hold(1_000)] })],
    [
      'a run that pointed elsewhere',
      '1',
      evidence({ runs: new Map([['run', [since({ ...run, key: 'other' }, 600)]]]) }),
    ],
    [
      'an object that another run needs',
      '1',
      evidence({
        runs: new Map([
          ['run', [since(run, 600, 2_200)]],
          ['two', [since({ ...run, runId: 'two', completedAt: 1_900 }, 1_950)]],
        ]),
      }),
    ],
    ['an object without a lease', '8', evidence({ leases: new Map() })],
    [
      'an object asked for after the lease',
      '8',
      evidence({}, { deletions: [{ ...deletion, arrivedAt: 2_300, arrivedFrom: 2_290 }] }),
    ],
    [
      'a batch taken from a valid lease',
      '8',
      evidence({ leases: new Map([['1', [{ ...lease, tookFromValid: true }]]]) }),
    ],
    [
      'a stamp without the word of S3',
      '3',
      evidence({}, { deletions: [{ ...deletion, toldGoneAt: undefined }] }),
    ],
    [
      'a stamp before the word of S3',
      '3',
      evidence({ stamps: [{ ...stamp, committedAt: 2_105 }] }),
    ],
    [
      'a stamp for an object that was put again',
      '3',
      evidence({}, { puts: new Map([['b/k', [400, 2_150]]]) }),
    ],
    ['a change that is not the reactor’s to make', '4', evidence({ foreignChanges: ['DELETE'] })],
    ['a count that is not what left', '12', evidence({ settledCleared: 2 })],
  ])('finds %s', (_what, promise, given) => {
    expect(promisesOf(given)).toContain(promise);
  });

  test('accepts a request that came in time and lay where nobody looked', () => {
    const late = { ...deletion, arrivedAt: 2_300, doneAt: 2_300, toldGoneAt: undefined };
    const told = { ...deletion, doneAt: undefined };
    expect(check(evidence({}, { deletions: [told, { ...late, arrivedFrom: 2_150 }] }))).toEqual([]);
  });

  test('finds a deletion after a hold was answered, but not one that the answer named', () => {
    const placed = { holds: [hold(2_020)] };
    const answered = (runIds: readonly string[]): Evidence =>
      evidence(placed, { tooLate: new Map([['7', new Set(runIds)]]) });
    expect(promisesOf(answered([]))).toEqual(['5']);
    expect(check(answered(['run']))).toEqual([]);
  });

  describe('of a run that shares the object', () => {
    const sharer = (state: Partial<RunState>, from: number, until?: number): Version<RunState> =>
      since({ ...run, runId: 'two', tenantId: 'other', ...state }, from, until);
    const shared = (two: readonly Version<RunState>[], history: Partial<History> = {}): string[] =>
      promisesOf(
        evidence({
          runs: new Map([
            ['run', [since(run, 600, 2_200)]],
            ['two', two],
          ]),
          ...history,
        }),
      );

    test('accepts either order where its policy changed while the claim looked', () => {
      const policies = (from: number): History['policies'] =>
        new Map([
          ['*', [since(RETAIN_MS, 0)]],
          ['other', [since(RETAIN_MS, 0, from), since(5_000, from)]],
        ]);
      expect(shared([sharer({}, 600)], { policies: policies(2_003) })).toEqual([]);
      expect(shared([sharer({}, 600)], { policies: policies(1_900) })).toEqual(['1']);
    });

    test('accepts either order where it came or went while the claim looked', () => {
      const needy = { completedAt: 1_900 };
      expect(shared([sharer(needy, 2_003)])).toEqual([]);
      expect(shared([sharer(needy, 600, 2_003)])).toEqual([]);
      expect(shared([sharer(needy, 600, 2_050)])).toEqual(['1']);
    });
  });

  test('accepts either order where a hold and a claim met', () => {
    expect(check(evidence({ holds: [hold(2_003)] }))).toEqual([]);
  });
});
