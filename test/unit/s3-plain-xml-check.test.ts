import type * as AwsS3 from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { S3Connection } from '../../src/objects/s3/connection.ts';
import { findPlainXmlFault } from '../../src/objects/s3/plain-xml-check.ts';
import { expectAllDeleted } from '../support/reports.ts';
import { deleteAll } from '../support/scripted-s3.ts';
import { useScriptedStore } from '../support/scripted-store.ts';

interface Placement {
  readonly name: string;
  readonly toMiddleware: string;
}

type Place = (middleware: unknown, placement: Placement) => void;

/** How the SDK's next version places what is put into its stack. */
const next = vi.hoisted(() => ({ place: undefined as ((place: Place) => Place) | undefined }));

vi.mock('@aws-sdk/client-s3', async (original) => {
  const sdk = await original<typeof AwsS3>();
  return {
    ...sdk,
    DeleteObjectsCommand: class extends sdk.DeleteObjectsCommand {
      constructor(input: AwsS3.DeleteObjectsCommandInput) {
        super(input);
        const stack = this.middlewareStack as unknown as { addRelativeTo: Place };
        if (next.place !== undefined) stack.addRelativeTo = next.place(stack.addRelativeTo);
      }
    },
  };
});

afterEach(() => {
  next.place = undefined;
});

const { open, play, requests } = useScriptedStore();
const KEYS = ['a', 'b & c', 'd'];

/** As if the SDK's own knew it by another name. */
function renamed(middleware: string): (place: Place) => Place {
  return (place) => (added, placement) => {
    const isOurs = placement.name.startsWith('plain');
    const isIt = isOurs && placement.toMiddleware === middleware;
    place(added, isIt ? { ...placement, toMiddleware: `${middleware}2` } : placement);
  };
}

/** As if it stood where what it does is without effect. */
function ineffective(name: string): (place: Place) => Place {
  return (place) => (added, placement) => {
    if (placement.name !== name) place(added, placement);
  };
}

test('nothing is wrong with this version of the SDK', async () => {
  expect(await findPlainXmlFault(new S3Connection({}))).toBeUndefined();
});

describe('an SDK in which', () => {
  test.each([
    ['the serializer has another name', renamed('serializerMiddleware')],
    ['the look for errors has another name', renamed('throw200ExceptionsMiddleware')],
    ['a body is written over', ineffective('plainKeys')],
    ['a reply is read earlier', ineffective('plainReply')],
  ])('%s is used in its own way, with one warning', async (_name, place) => {
    next.place = place;
    const warnings: string[] = [];
    const opened = open({ warn: (message) => warnings.push(message) });
    await opened.prepare();
    expect(warnings).toEqual([
      expect.stringMatching(/^The fast way of deleting does not fit this version of the AWS SDK/u),
    ]);
    play(deleteAll);
    expectAllDeleted(await opened.deleteObjects('bucket', KEYS), ['a', 'b & c', 'd']);
    expectAllDeleted(await opened.deleteObjects('bucket', ['e']), ['e']);
    expect(requests().map(({ keys }) => keys)).toEqual([['a', 'b &amp; c', 'd'], ['e']]);
    expect(warnings).toHaveLength(1);
  });

  test('all is in its place is passed by, without a word', async () => {
    const warnings: string[] = [];
    const opened = open({ warn: (message) => warnings.push(message) });
    play(deleteAll);
    expectAllDeleted(await opened.deleteObjects('bucket', KEYS), KEYS);
    expect(requests()).toHaveLength(1);
    expect(warnings).toEqual([]);
  });
});
