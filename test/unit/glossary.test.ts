import { describe, expect, it } from 'vitest';
import { filesBelow, read } from '../support/project-files.ts';

/** Where the states of a result are said: by explain, now and of a time that has passed. */
const EXPLAIN = /\/(?:16|28|29)_[a-z_]+\.sql$/u;

describe('the glossary', () => {
  const page = read('docs/glossary.md');
  const statesOf = sectionOf(page, '## The states of a result');
  const reasons = firstCells(sectionOf(page, '## The reasons of the gate'));

  it('names every state that explain gives a result, and no other', () => {
    const given = filesBelow('migrations/functions')
      .filter((path) => EXPLAIN.test(`/${path}`))
      .flatMap((path) => [
        ...read(path).matchAll(
          /\bstate := (?:case .*? then )?'(?<state>[a-z ]+)'(?: else '(?<other>[a-z ]+)')?/gu,
        ),
      ])
      .flatMap(({ groups }) => [groups?.['state'], groups?.['other']])
      .filter((state) => state !== undefined && !reasons.includes(state));
    expect(new Set(firstCells(statesOf))).toEqual(new Set(given));
  });

  it('draws a state machine of states that there are', () => {
    const drawing = /```\n(?<drawing>[\s\S]*?)```/u.exec(statesOf)?.groups?.['drawing'] ?? '';
    const wanted = 'not completed,kept,held,due,set aside,flagged,in flight,failed,dead,cleared';
    const drawn = firstCells(statesOf).filter((state) =>
      new RegExp(`\\b${state}\\b`, 'u').test(drawing),
    );
    expect(drawn).toEqual(expect.arrayContaining(wanted.split(',')));
  });

  it('names every reason of the gate, and no other', () => {
    const gate = read('migrations/functions/05_gate.sql').replaceAll(/\n-- /gu, ' ');
    const listed = /reason is one of: (?<reasons>[a-z ,]+)\./u.exec(gate)?.groups?.['reasons'];
    expect(new Set(reasons)).toEqual(new Set((listed ?? '').split(', ')));
  });
});

function sectionOf(page: string, heading: string): string {
  const begin = page.indexOf(`${heading}\n`);
  expect(begin, heading).toBeGreaterThan(-1);
  const end = page.indexOf('\n## ', begin + heading.length);
  return page.slice(begin, end === -1 ? undefined : end);
}

/** The first cells of the rows of a table, where they are names. */
function firstCells(section: string): string[] {
  return [...section.matchAll(/^\| `(?<name>[a-z ]+)` \|/gmu)].map(
    ({ groups }) => groups?.['name'] ?? '',
  );
}
