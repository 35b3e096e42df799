/** A request that S3 answers with an error document. */
export class S3Fault extends Error {
  override readonly name = 'S3Fault';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string = code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const MALFORMED = 'The XML you provided was not well-formed or did not validate';

/** What XML 1.0 calls a `Char`, negated: such a document is refused whole. */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const NOT_XML = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/u;

/** One `<Object>` of a DeleteObjects request. */
export interface ObjectToDelete {
  readonly key: string;
  readonly versionId: string | undefined;
  readonly etag: string | undefined;
}

/** The document of a DeleteObjects request. */
export interface DeleteDocument {
  readonly objects: ObjectToDelete[];
  readonly quiet: boolean;
}

/**
 * Reads a DeleteObjects document, by hand because it is the one that has to be fast.
 *
 * @throws {S3Fault} MalformedXML for what S3 refuses, such as more than 1,000 objects.
 */
export function parseDelete(xml: string): DeleteDocument {
  if (NOT_XML.test(xml)) throw malformed();
  const scanner = new Scanner(xml.replace(/\r\n?/g, '\n'));
  const objects: ObjectToDelete[] = [];
  let quiet = false;
  scanner.prologue();
  if (scanner.open() !== 'Delete') throw malformed();
  for (let tag = scanner.open(); tag !== '/Delete'; tag = scanner.open()) {
    if (tag === 'Quiet') quiet = scanner.text('Quiet') === 'true';
    else if (tag === 'Object') objects.push(readObject(scanner));
    else throw malformed();
  }
  scanner.end();
  if (objects.length === 0 || objects.length > 1_000) throw malformed();
  return { objects, quiet };
}

function readObject(scanner: Scanner): ObjectToDelete {
  let key: string | undefined;
  let versionId: string | undefined;
  let etag: string | undefined;
  for (let tag = scanner.open(); tag !== '/Object'; tag = scanner.open()) {
    const text = scanner.text(tag);
    if (tag === 'Key') key = text;
    else if (tag === 'VersionId') versionId = text;
    else if (tag === 'ETag') etag = text;
  }
  if (!key) throw malformed();
  return { key, versionId, etag };
}

/** Reads tags and texts of a document without attributes that matter, comments or CDATA. */
class Scanner {
  readonly #xml: string;
  #at = 0;

  constructor(xml: string) {
    this.#xml = xml;
  }

  prologue(): void {
    this.#skipSpace();
    if (this.#xml.startsWith('<?xml', this.#at)) this.#at = this.#find('?>') + 2;
  }

  /** The next tag's name; a closing one with its slash. */
  open(): string {
    this.#skipSpace();
    if (this.#xml[this.#at] !== '<') throw malformed();
    const end = this.#find('>');
    const tag = this.#xml.slice(this.#at + 1, end);
    this.#at = end + 1;
    const space = tag.search(/\s/);
    return space < 0 ? tag : tag.slice(0, space);
  }

  /** The text up to the closing tag of `tag`. */
  text(tag: string): string {
    if (tag.endsWith('/')) return '';
    const end = this.#find('<');
    const text = this.#xml.slice(this.#at, end);
    const closing = `</${tag}>`;
    if (!this.#xml.startsWith(closing, end)) throw malformed();
    this.#at = end + closing.length;
    return text.includes('&') ? unescapeXml(text) : text;
  }

  end(): void {
    this.#skipSpace();
    if (this.#at !== this.#xml.length) throw malformed();
  }

  #skipSpace(): void {
    while (' \n\t'.includes(this.#xml[this.#at] ?? '?')) this.#at += 1;
  }

  #find(what: string): number {
    const at = this.#xml.indexOf(what, this.#at);
    if (at < 0) throw malformed();
    return at;
  }
}

/** The text of the first element of that name in a small document, or undefined. */
export function textOf(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found === undefined ? undefined : unescapeXml(found.trim());
}

/** Text as it goes into an element. Characters that are no XML go as references, as S3 does it. */
export function escapeXml(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  return text.replace(/[&<>"\u0000-\u001f\u007f-\u009f\u2028\ufffe\uffff]/g, (it) => {
    const named = ESCAPES[it];
    return named ?? `&#x${it.charCodeAt(0).toString(16)};`;
  });
}

/** A whole document in S3's namespace. */
export function xmlDocument(root: string, content: string): string {
  return (
    `<?xml version="1.0" encoding="UTF-8"?>\n` +
    `<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${content}</${root}>`
  );
}

/** An element with text in it; nothing when there is no text to put there. */
export function element(name: string, text: string | number | boolean | undefined): string {
  return text === undefined ? '' : `<${name}>${escapeXml(String(text))}</${name}>`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};
const NAMED: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

function unescapeXml(text: string): string {
  return text.replace(/&([^;]{0,10})(;?)/g, (_all, name: string, end: string) => {
    if (end === '') throw malformed();
    return NAMED[name] ?? referenced(name);
  });
}

function referenced(name: string): string {
  const [, hexadecimal, decimal] = /^#(?:x([0-9a-fA-F]+)|(\d+))$/.exec(name) ?? [];
  const code = hexadecimal === undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16);
  if (!(code <= 0x10ffff)) throw malformed();
  const character = String.fromCodePoint(code);
  if (NOT_XML.test(character)) throw malformed();
  return character;
}

function malformed(): S3Fault {
  return new S3Fault(400, 'MalformedXML', MALFORMED);
}
