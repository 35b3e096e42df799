import { describe, expect, test } from 'vitest';
import { namesAll, readKeys, writeKeys } from '../../src/objects/s3/plain-xml.ts';

const BEGIN = '<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult xmlns="http://s3.example/">';
const deleted = (key: string): string => `<Deleted><Key>${key}</Key></Deleted>`;

describe('a plain reply', () => {
  test('gives the keys that it names, in its order', () => {
    expect(readKeys(`${BEGIN}${deleted('a/b c.json')}${deleted('ü+😀')}</DeleteResult>`)).toEqual([
      'a/b c.json',
      'ü+😀',
    ]);
    expect(readKeys(`<DeleteResult>${deleted('a')}</DeleteResult>\n`)).toEqual(['a']);
    expect(readKeys('<DeleteResult></DeleteResult>')).toEqual([]);
  });

  test.each([
    ['nothing at all', ''],
    ['one that is cut off in a key', `${BEGIN}${deleted('a')}<Deleted><Key>b`],
    ['one that is cut off between keys', `${BEGIN}${deleted('a')}`],
    [
      'an error among the keys',
      `${BEGIN}${deleted('a')}<Error><Key>b</Key></Error></DeleteResult>`,
    ],
    ['an error instead', '<Error><Code>InternalError</Code></Error>'],
    ['an entity in a key', `${BEGIN}${deleted('a&amp;b')}</DeleteResult>`],
    ['a byte that is not UTF-8', `${BEGIN}${deleted('a\uFFFD')}</DeleteResult>`],
    ['a version', `${BEGIN}<Deleted><Key>a</Key><VersionId>1</VersionId></Deleted></DeleteResult>`],
    ['a comment', `${BEGIN}<!-- ${deleted('a')} --></DeleteResult>`],
    ['character data', `${BEGIN}<Deleted><Key><![CDATA[a]]></Key></Deleted></DeleteResult>`],
    ['an empty key', `${BEGIN}${deleted('')}</DeleteResult>`],
    ['what follows its end', `${BEGIN}${deleted('a')}</DeleteResult>${deleted('b')}`],
    ['the empty tag of a quiet reply', '<DeleteResult/>'],
  ])('is none with %s', (_what, reply) => {
    expect(readKeys(reply)).toBeUndefined();
  });
});

test('keys are written so that XML carries them', () => {
  expect(writeKeys(['a&b', '<c>', '"d"']).toString()).toContain(
    '<Object><Key>a&amp;b</Key></Object><Object><Key>&lt;c&gt;</Key></Object>' +
      '<Object><Key>"d"</Key></Object><Quiet>false</Quiet></Delete>',
  );
});

describe('a reply names all keys of a request', () => {
  const keys = ['a/b c.json', 'ü+😀', 'e&f<g>', 'ab', 'a'];
  const names = (reply: string, sent = keys): boolean =>
    namesAll(Buffer.from(reply), writeKeys(sent), sent.length);
  const all = ['a/b c.json', 'ü+😀', 'e&amp;f&lt;g&gt;', 'ab', 'a'].map(deleted).join('');

  test('in its order and spelling, and nothing else', () => {
    expect(names(`${BEGIN}${all}</DeleteResult>`)).toBe(true);
    expect(names(`<DeleteResult>${all}</DeleteResult>\n`)).toBe(true);
  });

  test.each([
    ['nothing at all', ''],
    ['no key', `${BEGIN}</DeleteResult>`],
    ['one key less', `${BEGIN}${all.slice(0, -deleted('a').length)}</DeleteResult>`],
    ['one key more', `${BEGIN}${all}${deleted('x')}</DeleteResult>`],
    ['a key twice', `${BEGIN}${all.replace(deleted('a'), deleted('ab'))}</DeleteResult>`],
    ['another order', `${BEGIN}${deleted('a')}${all.replace(deleted('a'), '')}</DeleteResult>`],
    ['a longer key', `${BEGIN}${all.replace(deleted('a'), deleted('ax'))}</DeleteResult>`],
    ['a shorter key', `${BEGIN}${all.replace(deleted('ab'), deleted('a'))}</DeleteResult>`],
    ['another spelling', `${BEGIN}${all.replace('&gt;', '>')}</DeleteResult>`],
    ['an error after them', `${BEGIN}${all}<Error><Key>a</Key></Error></DeleteResult>`],
    ['an error instead of one', `${BEGIN}${all.replaceAll(/Deleted><Key>a</gu, 'Error><Key>a<')}`],
    ['a marker', `${BEGIN}${all.replace('</Key>', '</Key><DeleteMarker>true</DeleteMarker>')}`],
    ['no end', `${BEGIN}${all}`],
    ['an end in the middle of a key', `${BEGIN}${all.slice(0, -20)}`],
    ['what follows its end', `${BEGIN}${all}</DeleteResult>${deleted('b')}`],
    ['an error of the whole request', '<Error><Code>InternalError</Code></Error>'],
  ])('not with %s', (_what, reply) => {
    expect(names(reply)).toBe(false);
  });

  test('and every place of it counts', () => {
    const reply = Buffer.from(`<DeleteResult>${all}</DeleteResult>`);
    const request = writeKeys(keys);
    for (let at = 0; at < reply.length; at += 1) {
      const other = Buffer.from(reply);
      other[at] = (reply[at] ?? 0) ^ 1;
      expect(namesAll(other, request, keys.length), `byte ${at}`).toBe(false);
    }
  });
});
