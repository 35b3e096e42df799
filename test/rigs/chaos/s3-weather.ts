import { setTimeout as pause } from 'node:timers/promises';
import {
  type HttpFault,
  isDeleteObjects,
  type PassingReply,
  type PassingRequest,
} from '../../support/http-proxy.ts';
import type { Draws } from './draws.ts';

/** What S3, or what stands before it, does to a request; nothing is no fault. */
export type Weather = (request: PassingRequest) => HttpFault | undefined;

/** Draws what one kind of weather is like for a while. */
export type DrawWeather = (draws: Draws) => Weather;

/** By name. */
export const WEATHER: Readonly<Record<string, DrawWeather>> = {
  SlowDown: some(() => refuse(503, 'SlowDown')),
  InternalError: some(() => refuse(500, 'InternalError')),
  ExpiredToken: some(() => refuse(400, 'ExpiredToken')),
  AccessDenied: some(() => refuse(403, 'AccessDenied')),
  NoSuchBucket: some(() => refuse(404, 'NoSuchBucket')),
  'an HTML 502': some(() => html(502)),
  'an error in a 200': some(() => refuse(200, 'InternalError')),
  'an empty 200': some(() => ({ kind: 'answer', status: 200 })),
  'a dropped request': some(() => ({ kind: 'drop' })),
  'a hung request': some(() => ({ kind: 'hang' })),
  'a late request': some((draws) => ({ kind: 'delay', milliseconds: draws.integer(50, 3_000) })),
  'a request that outlives its client': some((draws) => ({
    kind: 'hold',
    until: pause(draws.integer(1_500, 8_000)),
  })),
  'a late reply': some((draws) => ({
    kind: 'delay-reply',
    milliseconds: draws.integer(50, 3_000),
  })),
  'a lost reply': some(() => ({ kind: 'lose-reply' })),
  'half a reply': some((draws) => ({ kind: 'cut-reply', bytes: draws.integer(0, 2_000) })),
  'a trickle': some((draws) => ({
    kind: 'throttle',
    bytesPerSecond: draws.integer(200, 4_000),
  })),
  'refused keys': some((draws) => rewrite(draws, refusedInstead)),
  'unnamed keys': some((draws) => rewrite(draws, () => '')),
  'keys refused for good': refuseForGood,
  'a store that wants Content-MD5': wantMd5,
  'a store without DeleteObjects': haveNoDeleteObjects,
  'a store that takes few keys': takeFewKeys,
  'a store whose limit of keys changes': changeTheLimit,
};

/** Strikes some requests, or all. */
function some(fault: (draws: Draws) => HttpFault): DrawWeather {
  return (draws) => {
    const share = draws.pick([20, 50, 100]);
    return () => (draws.percent(share) ? fault(draws) : undefined);
  };
}

function wantMd5(draws: Draws): Weather {
  const refusal = draws.pick([
    refuse(400, 'MissingContentMD5'),
    refuse(400, 'InvalidRequest', 'Missing required header for this request: Content-MD5'),
  ]);
  return (request) =>
    isDeleteObjects(request) && request.headers['content-md5'] === undefined ? refusal : undefined;
}

function haveNoDeleteObjects(draws: Draws): Weather {
  const refusal = draws.pick([refuse(501, 'NotImplemented'), refuse(405, 'MethodNotAllowed')]);
  return (request) => (isDeleteObjects(request) ? refusal : undefined);
}

function takeFewKeys(draws: Draws): Weather {
  const limit = draws.pick([1, 3, 10, 50]);
  const refusal = tooManyKeys(draws);
  return (request) => (keysOf(request) > limit ? refusal : undefined);
}

/** Another limit every few requests: what was learned is wrong, too low as well as too high. */
function changeTheLimit(draws: Draws): Weather {
  const refusal = tooManyKeys(draws);
  let limit = 1_000;
  let left = 0;
  return (request) => {
    if (!isDeleteObjects(request)) return undefined;
    if ((left -= 1) < 0) {
      limit = draws.pick([1, 2, 5, 20, 100, 1_000]);
      left = draws.integer(1, 12);
    }
    return keysOf(request) > limit ? refusal : undefined;
  };
}

function tooManyKeys(draws: Draws): HttpFault {
  return draws.pick([
    refuse(400, 'MalformedXML'),
    refuse(400, 'InvalidRequest', 'too many keys'),
    refuse(400, 'InvalidArgument'),
    html(413),
    html(400),
  ]);
}

function keysOf(request: PassingRequest): number {
  if (!isDeleteObjects(request)) return 0;
  return request.body.toString('utf8').split('<Key>').length - 1;
}

/** The same keys each time, until they are dead; though S3 says so, they are gone. */
function refuseForGood(draws: Draws): Weather {
  const letters = draws.pick(['048c', '159d', '26ae', '37bf']);
  const isRefused = (key: string): boolean => letters.includes(key.at(-1) ?? '');
  return () => hide(isRefused, (key) => refusedInstead(key, 'AccessDenied'));
}

function refuse(status: number, code: string, message = 'so the campaign wants'): HttpFault {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return { kind: 'answer', status, body };
}

function html(status: number): HttpFault {
  const body = '<html><head><title>Bad Gateway</title></head><body>nginx</body></html>';
  return { kind: 'answer', status, body, headers: { 'content-type': 'text/html' } };
}

/** Hides some of the deletions that the server names: they happened, and nobody is told. */
function rewrite(draws: Draws, instead: (key: string, code: string) => string): HttpFault {
  const code = draws.pick(['AccessDenied', 'InternalError']);
  return hide(
    () => draws.percent(30),
    (key) => instead(key, code),
  );
}

function hide(isHidden: (key: string) => boolean, instead: (key: string) => string): HttpFault {
  return {
    kind: 'rewrite',
    change: (reply: PassingReply) => {
      const text = reply.body.toString('utf8');
      const changed = text.replaceAll(
        /<Deleted><Key>(.*?)<\/Key>.*?<\/Deleted>/gsu,
        (whole, key: string) => (isHidden(key) ? instead(key) : whole),
      );
      return { ...reply, body: Buffer.from(changed) };
    },
  };
}

function refusedInstead(key: string, code: string): string {
  return `<Error><Key>${key}</Key><Code>${code}</Code><Message>so the campaign wants</Message></Error>`;
}
