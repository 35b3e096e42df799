import { describe, expect, test } from 'vitest';
import { checkBuckets } from '../../src/reactor/doctor/bucket-checks.ts';
import type { Diagnosis } from '../../src/store/diagnosis.ts';
import { type Script, deleteAll, refuse, reply } from '../support/scripted-s3.ts';
import { useScriptedStore } from '../support/scripted-store.ts';

const { open, play, requests } = useScriptedStore();

/** Examines two buckets, with keys of live results in them. */
async function examine(keys: readonly string[] = [], mayGoOn = true) {
  const noted: unknown[] = [];
  const reader = {
    readBuckets: () => Promise.resolve([]),
    noteBucket: () => Promise.resolve(),
    hasKeyUnder: () => Promise.resolve(false),
    sampleKeys: () => Promise.resolve(keys),
    noteLook: (_bucket: string, look: unknown) => {
      noted.push(look);
      return Promise.resolve(mayGoOn);
    },
  };
  const { inspection, listing, place } = open();
  const checks = await checkBuckets({
    inspection,
    listing,
    place,
    allowedBuckets: ['one', 'two'],
    reader: reader as unknown as Diagnosis,
    health: undefined,
  });
  return { checks, failed: checks.filter(({ state }) => state === 'failed'), noted };
}

/** Refuses everything; a reply to HEAD has no body. */
function refuseAll(status: number, code: string): Script {
  return (request, response) =>
    (request.method === 'HEAD' ? reply(status, '') : refuse(status, code))(request, response);
}

describe('credentials that the store refuses are one finding:', () => {
  test.each([
    [403, 'SignatureDoesNotMatch', 'The secret key is not that of the access key'],
    [403, 'InvalidAccessKeyId', 'This store does not know the access key'],
    [403, 'RequestTimeTooSkewed', "This machine's clock is wrong"],
    [400, 'ExpiredToken', 'The session has ended'],
    [400, 'InvalidToken', 'The session token does not belong to the access key'],
  ])('%i %s', async (status, code, remedy) => {
    play(refuseAll(status, code));
    const { checks } = await examine();
    expect(checks).toHaveLength(1);
    expect(checks[0]).toMatchObject({ name: 'S3 credentials', state: 'failed' });
    expect(checks[0]?.found).toContain(code);
    expect(checks[0]?.remedy).toContain(remedy);
  });
});

describe('a right that is missing is asked for in the partition of the region:', () => {
  test.each([
    ['eu-central-1', 'arn:aws:s3:::one'],
    ['us-gov-west-1', 'arn:aws-us-gov:s3:::one'],
    ['cn-north-1', 'arn:aws-cn:s3:::one'],
    ['us-iso-east-1', 'arn:aws-iso:s3:::one'],
    ['us-isob-east-1', 'arn:aws-iso-b:s3:::one'],
    ['eu-isoe-west-1', 'arn:aws-iso-e:s3:::one'],
    ['us-isof-south-1', 'arn:aws-iso-f:s3:::one'],
    ['eusc-de-east-1', 'arn:aws-eusc:s3:::one'],
  ])('%s', async (region, arn) => {
    play((request, response) => {
      const isHead = request.method === 'HEAD';
      const answer = isHead
        ? reply(200, '', { 'x-amz-bucket-region': region })
        : refuse(403, 'AccessDenied', 'Access Denied');
      answer(request, response);
    });
    const { checks } = await examine();
    const ofOne = checks.filter(({ name }) => name.startsWith('bucket one'));
    const remedies = ofOne.flatMap(({ remedy }) => remedy ?? []);
    expect(remedies.filter((it) => it.includes(`"${arn}"`)).length).toBeGreaterThan(1);
    expect(remedies.filter((it) => it.includes(`"${arn}/*"`))).toHaveLength(1);
  });
});

test.each([
  ['Mfa Authentication must be used for this request', 'MFA delete'],
  ['not authorized with an explicit deny in a service control policy', 'A policy denies it'],
  ['the object is protected by object lock', 'Object lock'],
])('a denial that says "%s" names no right that is missing', async (words, remedy) => {
  play((request, response) => {
    const isDeletion = request.method === 'POST' || request.method === 'DELETE';
    (isDeletion ? refuse(403, 'AccessDenied', words) : reply(200, '<a></a>'))(request, response);
  });
  const { failed } = await examine();
  expect(failed[0]).toMatchObject({ name: 'bucket one: right to delete' });
  expect(failed[0]?.remedy).toContain(remedy);
  expect(failed[0]?.remedy).not.toContain('Allow');
});

describe('keys of live results', () => {
  const keys = ['s3://one/results/1', 's3://one/results/2'];

  function answer(state: 200 | 403 | 404): Script {
    return (request, response) => {
      const isKey = request.method === 'HEAD' && request.url.includes('results');
      if (isKey) reply(state, '')(request, response);
      else if (request.url.includes('list-type')) {
        (state === 403 ? refuse(403, 'AccessDenied') : reply(200, '<ListBucketResult/>'))(
          request,
          response,
        );
      } else if (request.method === 'GET' || request.method === 'HEAD') {
        reply(200, '<a></a>')(request, response);
      } else deleteAll(request, response);
    };
  }

  test('that have no object fail, with the keys and what to compare', async () => {
    play(answer(404));
    const { failed, noted } = await examine(keys, false);
    expect(failed[0]).toMatchObject({
      name: 'bucket one: objects',
      found:
        '0 of 2 keys that were looked for have an object; not s3://one/results/1, s3://one/results/2',
    });
    expect(failed[0]?.remedy).toContain('retention bucket confirm one');
    expect(noted[0]).toMatchObject({ looked: 2, missing: keys, again: true });
    expect(requests().length).toBeGreaterThan(0);
  });

  test('that have one are fine', async () => {
    play(answer(200));
    const { failed, checks } = await examine(keys);
    expect(failed).toEqual([]);
    expect(checks.find(({ name }) => name === 'bucket one: objects')?.state).toBe('ok');
  });

  test('that may not be looked at are warned of', async () => {
    play(answer(403));
    const { checks } = await examine(keys);
    const check = checks.find(({ name }) => name === 'bucket one: objects');
    expect(check).toMatchObject({ state: 'warning' });
  });
});
