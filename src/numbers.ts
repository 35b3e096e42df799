/** A number with separators: `1,250`. */
export function showNumber(number: number): string {
  return number.toLocaleString('en');
}

/** `1 result`, `1,250 results`. */
export function showCount(count: number, one: string, many = `${one}s`): string {
  return `${showNumber(count)} ${count === 1 ? one : many}`;
}

/** `1 result`, `1250 results`: for lines that programs read too. */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
