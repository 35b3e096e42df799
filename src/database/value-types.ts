import pg from 'pg';

type TypeParser = (text: string) => unknown;

/** OIDs of pg_type that never change. (PostgreSQL: src/include/catalog/pg_type.dat) */
const INT8 = 20;
const INT8_ARRAY = 1016;

/** A `bigint` as a number, or as text when a number could not hold it exactly. */
function readInt8(text: string): number | string {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : text;
}

// pg's types list fewer types than pg can read.
const parserOf = pg.types.getTypeParser as (oid: number, format?: string) => TypeParser;
const readTextArray = parserOf(INT8_ARRAY);

function readInt8Array(text: string): unknown {
  return mapDeep(readTextArray(text), (item) => (typeof item === 'string' ? readInt8(item) : item));
}

function mapDeep(value: unknown, change: (item: unknown) => unknown): unknown {
  return Array.isArray(value) ? value.map((item) => mapDeep(item, change)) : change(value);
}

/** pg's reading of values, with integers of eight bytes as numbers. */
export const valueTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: string): TypeParser => {
    if (format !== 'binary' && oid === INT8) return readInt8;
    if (format !== 'binary' && oid === INT8_ARRAY) return readInt8Array;
    return parserOf(oid, format);
  }) as typeof pg.types.getTypeParser,
};
