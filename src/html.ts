import { escapeControls } from './safe-text.ts';

/** Text that is markup already. Only {@link html} makes it. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What a template takes: text, which is escaped, markup, or nothing. */
export type Insertion = string | number | Markup | readonly Insertion[] | undefined;

/** Writes markup; an insertion is escaped unless it is markup itself. */
export function html(strings: TemplateStringsArray, ...values: readonly Insertion[]): Markup {
  return new Markup(
    strings.reduce((text, piece, index) => text + render(values[index - 1]) + piece),
  );
}

function render(value: Insertion): string {
  if (value === undefined) return '';
  if (value instanceof Markup) return value.text;
  if (typeof value === 'string' || typeof value === 'number') return escapeHtml(String(value));
  return value.map(render).join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '`': '&#96;',
};

/** Escapes text for elements and quoted attributes; control characters are written visibly. */
function escapeHtml(text: string): string {
  return escapeControls(text).replaceAll(/[&<>"'`]/gu, (character) => ENTITIES[character] ?? '');
}
