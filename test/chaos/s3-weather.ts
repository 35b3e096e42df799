import type { HttpFault, PassingReply, PassingRequest } from '../support/http-proxy.ts';
import type { Draws } from './draws.ts';

/** What S3, or what stands before it, does for a while. */
export interface Weather {
  readonly name: string;
  readonly fault: (request: PassingRequest) => HttpFault | undefined;
}

/** Draws the weather for a while. */
export function drawWeather(draws: Draws): Weather {
  const share = draws.pick([20, 50, 100]);
  const some = (name: string, fault: () => HttpFault): Weather => ({
    name,
    fault: () => (draws.percent(share) ? fault() : undefined),
  });
  return draws.pick<() => Weather>([
    () => some('SlowDown', () => refuse(503, 'SlowDown')),
    () => some('InternalError', () => refuse(500, 'InternalError')),
    () => some('ExpiredToken', () => refuse(400, 'ExpiredToken')),
    () => some('AccessDenied', () => refuse(403, 'AccessDenied')),
    () => some('NoSuchBucket', () => refuse(404, 'NoSuchBucket')),
    () => some('an HTML 502', () => html(502)),
    () => some('an error in a 200', () => refuse(200, 'InternalError')),
    () => some('an empty 200', () => ({ kind: 'answer', status: 200 })),
    () => some('a dropped request', () => ({ kind: 'drop' })),
    () => some('a hung request', () => ({ kind: 'hang' })),
    () => some('a late request', () => ({ kind: 'delay', milliseconds: draws.integer(50, 3_000) })),
    () =>
      some('a late reply', () => ({ kind: 'delay-reply', milliseconds: draws.integer(50, 3_000) })),
    () => some('a lost reply', () => ({ kind: 'lose-reply' })),
    () => some('half a reply', () => ({ kind: 'cut-reply', bytes: draws.integer(0, 2_000) })),
    () =>
      some('a trickle', () => ({ kind: 'throttle', bytesPerSecond: draws.integer(200, 4_000) })),
    () => some('refused keys', () => rewrite(draws, refusedInstead)),
    () => some('unnamed keys', () => rewrite(draws, () => '')),
  ])();
}

function refuse(status: number, code: string): HttpFault {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>so the campaign wants</Message></Error>`;
  return { kind: 'answer', status, body };
}

function html(status: number): HttpFault {
  const body = '<html><head><title>Bad Gateway</title></head><body>nginx</body></html>';
  return { kind: 'answer', status, body, headers: { 'content-type': 'text/html' } };
}

/** Hides some of the deletions that the server names: they happened, and nobody is told. */
function rewrite(draws: Draws, instead: (key: string, code: string) => string): HttpFault {
  const code = draws.pick(['AccessDenied', 'InternalError']);
  return {
    kind: 'rewrite',
    change: (reply: PassingReply) => {
      const text = reply.body.toString('utf8');
      const changed = text.replaceAll(
        /<Deleted><Key>(.*?)<\/Key>.*?<\/Deleted>/gsu,
        (whole, key: string) => (draws.percent(30) ? instead(key, code) : whole),
      );
      return { ...reply, body: Buffer.from(changed) };
    },
  };
}

function refusedInstead(key: string, code: string): string {
  return `<Error><Key>${key}</Key><Code>${code}</Code><Message>so the campaign wants</Message></Error>`;
}
