import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { DOCUMENT_SCHEMAS, SCHEMA_NAMES, jsonSchema } from '../../src/payloads/payloads.ts';
import { snapshotAsJson } from '../../src/telemetry/snapshot.ts';
import { checkDocument, documentNameOf, faultOf } from '../support/documents.ts';
import { snapshotOf } from '../support/snapshot.ts';

/** The words of every command that takes `--json`. */
function commandsWithJson(command: Command, words: readonly string[] = []): string[] {
  const own = command.options.some(({ long }) => long === '--json') ? [words.join(' ')] : [];
  return [...own, ...command.commands.flatMap((it) => commandsWithJson(it, [...words, it.name()]))];
}

describe('the schemas', () => {
  test('are one for each command that prints a document, and for no other', () => {
    expect(commandsWithJson(createProgram()).toSorted()).toEqual(
      Object.keys(DOCUMENT_SCHEMAS).toSorted(),
    );
  });

  test('can be written as JSON Schemas, to whose objects keys may be added', () => {
    for (const name of SCHEMA_NAMES) {
      const schema = jsonSchema(name);
      expect(schema['$schema']).toBe('https://json-schema.org/draft/2020-12/schema');
      expect(JSON.stringify(schema), name).not.toContain('"additionalProperties":false');
    }
    expect(jsonSchema('retention_cleared')).toMatchObject({
      type: 'object',
      required: ['batch', 'bucket', 'cleared', 'spared', 'failed', 'ms'],
      properties: { batch: { type: 'integer' }, bucket: { type: 'string' } },
    });
  });

  test('hold what /status.json shows', () => {
    expect(faultOf('status.json', JSON.parse(snapshotAsJson(snapshotOf())))).toBeUndefined();
  });

  test('refuse a document that lacks a key, and an error without its exit code', () => {
    expect(documentNameOf(['hold', 'list', '--json'])).toBe('hold list');
    expect(documentNameOf(['hold', 'list'])).toBeUndefined();
    const halted = { halted: true, reasons: [] };
    expect(() => checkDocument(['halt', '--json'], JSON.stringify(halted))).not.toThrow();
    expect(() => checkDocument(['halt', '--json'], '{"halted":true}')).toThrow('reasons');
    expect(() => checkDocument(['halt', '--json'], '{"error":{"code":"USAGE"}}')).toThrow(
      'exit_code',
    );
  });
});
