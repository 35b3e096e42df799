/**
 * Everything that the suite, the rigs and the demo need from the distribution. No other file names a
 * package: `npm run packages` installs what is missing of this list in one step, and the demo the part
 * `postgres` of it.
 */
export const PARTS = {
  /** The one part that is no program on the PATH: its packages carry a major version. */
  postgres: {
    name: 'PostgreSQL with pg_cron',
    server: (major: number) => `postgresql-${major}`,
    cron: (major: number) => `postgresql-${major}-cron`,
  },
  pgbouncer: { name: 'PgBouncer', programs: { pgbouncer: 'pgbouncer' } },
  ceph: {
    name: "Ceph's S3 gateway",
    programs: {
      'ceph-mon': 'ceph-mon',
      monmaptool: 'ceph-base',
      'ceph-osd': 'ceph-osd',
      radosgw: 'radosgw',
      'radosgw-admin': 'ceph-common',
      ceph: 'ceph-common',
    },
    unless: 'S3_TEST_ENDPOINT',
  },
  chromium: { name: 'Chromium', programs: { chromium: 'chromium' } },
  prometheus: {
    name: 'Prometheus',
    programs: { prometheus: 'prometheus', promtool: 'prometheus' },
  },
  // It reads the unit file of deploy/.
  systemd: { name: 'systemd-analyze', programs: { 'systemd-analyze': 'systemd' } },
  // It gives a command a terminal.
  script: { name: 'script', programs: { script: 'bsdutils' } },
  openssl: { name: 'OpenSSL', programs: { openssl: 'openssl' } },
} as const satisfies { readonly postgres: PostgresPart } & Readonly<
  Record<string, PostgresPart | ProgramPart>
>;

interface PostgresPart {
  readonly name: string;
  readonly server: (major: number) => string;
  readonly cron: (major: number) => string;
}

/** A part that is there when each of its programs is. */
export interface ProgramPart {
  readonly name: string;
  /** Each program, and the package of Debian and Ubuntu that holds it. */
  readonly programs: Readonly<Record<string, string>>;
  /** A variable that names something else to use. */
  readonly unless?: string;
}

/** What a part is called on a command line. */
export type PartName = keyof typeof PARTS;

/** A program that is on the list. */
export type ListedProgram = {
  [Name in PartName]: (typeof PARTS)[Name] extends { readonly programs: infer Programs }
    ? Extract<keyof Programs, string>
    : never;
}[PartName];

/** The parts that are programs. */
export function programParts(): readonly (readonly [PartName, ProgramPart])[] {
  const named = Object.entries(PARTS) as [PartName, PostgresPart | ProgramPart][];
  return named.flatMap(([name, part]) => ('programs' in part ? [[name, part] as const] : []));
}

/** The packages that hold these programs, each once. */
export function packagesOf(programs: readonly ListedProgram[]): readonly string[] {
  const held = Object.assign({}, ...programParts().map(([, part]) => part.programs)) as Readonly<
    Record<ListedProgram, string>
  >;
  return [...new Set(programs.map((program) => held[program]))];
}
