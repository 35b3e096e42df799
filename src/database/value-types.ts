import pg from 'pg';

type TypeParser = (text: string) => unknown;

/** OIDs of pg_type that never change. (PostgreSQL: src/include/catalog/pg_type.dat) */
const INT8 = 20;
const INT8_ARRAY = 1016;
const DATES: ReadonlySet<number> = new Set([1082, 1114, 1184]);

const LAST_YEAR = 9_999;

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

/** A date, or the text of one that no date of ours holds: pg would make a number or an invalid date of it. */
function readDate(oid: number, text: string): unknown {
  const date = parserOf(oid)(text);
  if (!(date instanceof Date)) return text;
  const year = date.getUTCFullYear();
  return year >= 1 && year <= LAST_YEAR ? date : text;
}

/** pg's reading of values, with integers of eight bytes as numbers, and dates that are none as text. */
export const valueTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: string): TypeParser => {
    if (format !== 'binary' && oid === INT8) return readInt8;
    if (format !== 'binary' && oid === INT8_ARRAY) return readInt8Array;
    if (format !== 'binary' && DATES.has(oid)) return (text) => readDate(oid, text);
    return parserOf(oid, format);
  }) as typeof pg.types.getTypeParser,
};
