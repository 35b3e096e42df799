import type { TestDatabase } from './database.ts';
import { filesBelow, read } from './project-files.ts';

/** A function of the SQL interface, as the catalog has it. */
export interface SqlFunction {
  readonly name: string;
  readonly comment: string | null;
  /** What it returns where it has no result columns. */
  readonly returns: string;
  readonly returns_set: boolean;
  readonly parameters: readonly SqlParameter[];
  readonly body: string;
}

interface SqlParameter {
  readonly name: string;
  readonly type: string;
  /** As pg_proc has it: i, o, b, v or t. */
  readonly mode: string;
  readonly default: string | null;
}

/** A view or table of the SQL interface, as the catalog has it. */
export interface SqlRelation {
  readonly name: string;
  readonly kind: 'view' | 'table';
  readonly comment: string | null;
  readonly columns: readonly {
    readonly name: string;
    readonly type: string;
    readonly comment: string | null;
  }[];
}

/** What does not begin with an underscore, and is no function of a trigger. */
export interface SqlInterface {
  readonly functions: readonly SqlFunction[];
  readonly relations: readonly SqlRelation[];
}

const FUNCTIONS = `select p.proname as name, obj_description(p.oid, 'pg_proc') as comment,
    format_type(p.prorettype, null) as returns, p.proretset as returns_set, p.prosrc as body,
    coalesce((
      select json_agg(json_build_object('name', p.proargnames[a.n], 'type', format_type(a.type, null),
        'mode', coalesce(p.proargmodes[a.n]::text, 'i'),
        'default', pg_get_function_arg_default(p.oid, a.n::integer)) order by a.n)
      from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality as a (type, n)
    ), '[]') as parameters
  from pg_proc p
  where p.pronamespace = 'retention'::regnamespace and p.proname !~ '^_'
    and p.prorettype <> 'trigger'::regtype
  order by p.proname, p.oid::regprocedure::text`;

/** But the table of the runner of migrations, which is not ours. */
const RELATIONS = `select c.relname as name, case c.relkind when 'v' then 'view' else 'table' end as kind,
    obj_description(c.oid, 'pg_class') as comment,
    (
      select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
        'comment', col_description(c.oid, a.attnum)) order by a.attnum)
      from pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns
  from pg_class c
  where c.relnamespace = 'retention'::regnamespace and c.relkind in ('r', 'v')
    and c.relname !~ '^_' and c.relname <> 'pgmigrations'
  order by c.relkind desc, c.relname`;

/** Reads the SQL interface from the catalog of a migrated database. */
export async function readInterface({ query }: TestDatabase): Promise<SqlInterface> {
  const functions = await query(FUNCTIONS);
  const relations = await query(RELATIONS);
  return {
    functions: functions as unknown as readonly SqlFunction[],
    relations: relations as unknown as readonly SqlRelation[],
  };
}

/** The role that a comment names: "For the listener." */
export function roleOf(comment: string | null): string | undefined {
  return ROLE.exec(comment ?? '')?.groups?.['role'];
}

const ROLE =
  /(?:^|\s)For (?<role>the listener|operators|observers|readers|the owner of the schema)\.(?=\s|$)/u;
const LOCKS =
  /(?:^|(?<=\s))(?:Locks|Waits for) .*?\.(?=\s|$)(?: (?!Raises|Returns)[A-Z].*?\.(?=\s|$))*/su;
const RAISES = /(?:^|(?<=\s))Raises .*?\.(?=\s|$)/gsu;

interface Subject {
  readonly title: string;
  readonly introduction: string;
  readonly sql: string;
}

/** `docs/sql.md`: every public function, view and table, by the file that makes it. */
export function renderInterface({ functions, relations }: SqlInterface): string {
  const subjects = filesBelow('migrations/functions').map(readSubject);
  const isOf = (subject: Subject, kind: string, name: string): boolean =>
    new RegExp(`create or replace ${kind} retention\\.${name}\\b`, 'u').test(subject.sql);
  const sections = subjects.flatMap((subject) => {
    const entries = [
      ...relations.filter(({ name }) => isOf(subject, 'view', name)).map(renderRelation),
      ...functions.filter(({ name }) => isOf(subject, 'function', name)).map(renderFunction),
    ];
    if (entries.length === 0) return [];
    return [paragraphs([`## ${subject.title}`, subject.introduction]), ...entries];
  });
  const tables = relations.filter(({ kind }) => kind === 'table').map(renderRelation);
  return [INTRODUCTION, ...sections, '## Tables', TABLES, ...tables].join('\n\n');
}

const INTRODUCTION = `# The SQL interface

<!-- Generated from the catalog: RETENTION_WRITE_DOCS=1 npx vitest run --project database sql-reference -->

Everything here is in the schema \`retention\`. psql shows the same with \`\\df+ retention.*\` and
\`\\dv+ retention.*\`. What begins with an underscore is internal: it may change in any release.

Each entry names the role that it is for. Readers ask which results can be read. Observers look. The listener may
also do what they may, and operators what the listener may. \`RETENTION_OBSERVER_ROLE\`, \`RETENTION_ROLE\` (the
listener) and \`RETENTION_OPERATOR_ROLE\` name the roles that get these rights; readers get them by
\`retention.grant_rights(role, 'reader')\`. Where no operator is named, the owner of the schema does that work.

Errors are named as PostgreSQL names its conditions. The detail and the hint of an error say what was found
and what to do. The columns of \`retention.result\` have the types of the adopted table; shown here are those
of the default one.`;

const TABLES = `The tables are the truth, and may be read. The functions above write them. Not every setting
has a function: the owner of the schema updates the rows of \`retention.setting\` and \`retention.bucket\`.`;

function readSubject(path: string): Subject {
  const sql = read(path);
  const header = /^\/\*\n(?<text>[\s\S]*?)(?:\n\n|\n\*\/)/u.exec(sql)?.groups?.['text'] ?? '';
  const [, title = path, text = ''] = /^([^:.,]*)[:.,]\s*([\s\S]*)$/u.exec(header) ?? [];
  return { title, introduction: prose(text.charAt(0).toUpperCase() + text.slice(1)), sql };
}

function renderFunction(f: SqlFunction): string {
  const comment = withoutRole(f.comment);
  const errors = comment.match(RAISES) ?? [];
  const locks = LOCKS.exec(comment)?.[0] ?? '';
  const rest = [locks, ...errors].reduce((text, part) => text.replace(part, ''), comment);
  const inputs = f.parameters.filter(({ mode }) => 'ibv'.includes(mode));
  const results = f.parameters.filter(({ mode }) => 'obt'.includes(mode));
  const returned = f.returns_set ? `rows of \`${f.returns}\`` : `\`${f.returns}\``;
  return paragraphs([
    `### retention.${f.name}`,
    `For ${roleOf(f.comment) ?? ''}.`,
    prose(rest),
    table(
      ['argument', 'type', 'default'],
      inputs.map(({ name, type, default: value }) => [
        code(name),
        code(type),
        code(withoutCast(value ?? '')),
      ]),
    ),
    results.length === 0
      ? `Returns ${f.returns === 'void' ? 'nothing' : returned}.`
      : table(
          [f.returns_set ? 'column of its rows' : 'column of its row', 'type'],
          results.map(({ name, type }) => [code(name), code(type)]),
        ),
    prose(locks),
    prose(errors.join(' ')),
  ]);
}

function renderRelation({ name, kind, comment, columns }: SqlRelation): string {
  return paragraphs([
    `### retention.${name}`,
    kind === 'view' ? `For ${roleOf(comment) ?? ''}.` : '',
    prose(withoutRole(comment)),
    table(
      ['column', 'type', 'meaning'],
      columns.map((column) => [code(column.name), code(column.type), prose(column.comment ?? '')]),
    ),
  ]);
}

function paragraphs(parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('\n\n');
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const lines = [heads, heads.map(() => '---'), ...rows];
  return lines
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`)).join(' | ')} |`)
    .join('\n');
}

function code(text: string): string {
  return text === '' ? '' : `\`${text}\``;
}

/** A default as a person writes it. */
function withoutCast(value: string): string {
  return value.replace(/::[^']+$/u, '').replace(/^NULL$/u, 'null');
}

function withoutRole(comment: string | null): string {
  return (comment ?? '').replace(ROLE, '');
}

/** One paragraph of Markdown: names in code, and the rest without what Markdown would read as its own. */
function prose(text: string): string {
  return text
    .replaceAll(/\s+/gu, ' ')
    .trim()
    .split(
      /(?<code>`[^`]*`|(?<![\w"])(?:retention\.\w+|setting\.\w+|[a-z]+(?:_[a-z]+)+)(?:\(\)|\[i\])?)/u,
    )
    .map((part, index) => {
      if (index % 2 === 0) return part.replaceAll(/[*<[\]]/gu, String.raw`\$&`);
      return part.startsWith('`') ? part : code(part);
    })
    .join('');
}
