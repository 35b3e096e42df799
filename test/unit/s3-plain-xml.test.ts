import { describe, expect, test } from 'vitest';
import { readKeys, writeKeys } from '../../src/objects/s3-plain-xml.ts';

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
  expect(writeKeys(['a&b', '<c>', '"d"'])).toContain(
    '<Object><Key>a&amp;b</Key></Object><Object><Key>&lt;c&gt;</Key></Object>' +
      '<Object><Key>"d"</Key></Object><Quiet>false</Quiet></Delete>',
  );
});
