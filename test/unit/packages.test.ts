import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { installCommand } from '../stack/apt.ts';
import type { PostgresServer } from '../stack/find-postgres.ts';
import { INSTALL_SCRIPT } from '../stack/install-script.ts';
import { type PackageFacts, planPackages } from '../stack/package-plan.ts';
import { PARTS, type PartName, programParts } from '../stack/packages.ts';
import { filesBelow, read } from '../support/project-files.ts';

const POSTGRES = ['postgresql-15', 'postgresql-15-cron'];
const EVERY_PART = Object.keys(PARTS) as PartName[];

function server(major: number, hasCron: boolean): PostgresServer {
  return { major, binFolder: `/usr/lib/postgresql/${major}/bin`, hasCron };
}

function offeredBy(major: number): PackageFacts['isOffered'] {
  return (name) => !name.startsWith('postgresql-') || name.startsWith(`postgresql-${major}`);
}

// A bare Debian 12, with root.
const bare: PackageFacts = {
  servers: [],
  hasProgram: () => false,
  hasApt: true,
  right: 'root',
  distributionMajor: 15,
  isOffered: offeredBy(15),
};

describe('a machine that has what is needed', () => {
  it('gets nothing', () => {
    const full = { ...bare, servers: [server(15, true)], hasProgram: () => true };
    const nothing = { missing: [], packages: [], refusal: undefined };
    expect(planPackages(EVERY_PART, full)).toEqual(nothing);
    expect(planPackages(EVERY_PART, { ...full, hasApt: false, right: 'none' })).toEqual(nothing);
  });

  it('is content with an older server that has pg_cron beside a newer one without', () => {
    const servers = [server(17, false), server(15, true)];
    expect(planPackages(['postgres'], { ...bare, servers }).packages).toEqual([]);
  });
});

describe('a machine that lacks something', () => {
  it('gets all of it at once, each package once', () => {
    const held = programParts().flatMap(([, { programs }]) => Object.values(programs));
    const packages = [...POSTGRES, ...new Set(held)];
    const plan = { missing: EVERY_PART, packages, refusal: undefined };
    expect(planPackages(EVERY_PART, bare)).toEqual(plan);
    expect(planPackages(EVERY_PART, { ...bare, right: 'sudo' })).toEqual(plan);
  });

  it('gets only what was asked for', () => {
    expect(planPackages(['postgres'], bare).packages).toEqual(POSTGRES);
    expect(planPackages(['pgbouncer'], bare).packages).toEqual(['pgbouncer']);
  });

  it('gets only the package of the program that is missing', () => {
    const hasProgram = (program: string): boolean => program !== 'radosgw';
    expect(planPackages(['ceph', 'openssl'], { ...bare, hasProgram })).toEqual({
      missing: ['ceph'],
      packages: ['radosgw'],
      refusal: undefined,
    });
  });

  it('keeps a server that lacks only pg_cron', () => {
    const plan = planPackages(['postgres'], { ...bare, servers: [server(15, false)] });
    expect(plan.packages).toEqual(['postgresql-15-cron']);
  });

  it('gets the server of the distribution beside one for which there is no pg_cron', () => {
    const plan = planPackages(['postgres'], { ...bare, servers: [server(14, false)] });
    expect(plan.packages).toEqual(POSTGRES);
  });
});

describe('a machine where something cannot be installed', () => {
  it('says the exact command when the right is missing', () => {
    const { packages, refusal } = planPackages(['postgres'], { ...bare, right: 'none' });
    expect(packages).toEqual([]);
    expect(refusal).toContain(installCommand(POSTGRES));
  });

  it('says that this is no Debian', () => {
    const { packages, refusal } = planPackages(EVERY_PART, { ...bare, hasApt: false });
    expect(packages).toEqual([]);
    expect(refusal).toMatch(/only on Debian and Ubuntu.*pg_cron.*PgBouncer/u);
  });

  it('says what its package sources lack, and gets the rest', () => {
    const isOffered = (name: string): boolean => name !== 'chromium';
    const { packages, refusal } = planPackages(['pgbouncer', 'chromium'], { ...bare, isOffered });
    expect(packages).toEqual(['pgbouncer']);
    expect(refusal).toMatch(/do not offer Chromium/u);
    const unknown = planPackages(['postgres'], { ...bare, distributionMajor: undefined });
    expect(unknown.refusal).toMatch(/do not offer PostgreSQL with pg_cron/u);
  });
});

describe('the list', () => {
  it('is the only place that names packages', () => {
    const files = [...filesBelow('test'), ...filesBelow('src')].filter((path) =>
      /\.(?:ts|mjs)$/u.test(path),
    );
    const calling = files.filter((path) => /\binstallPackages\b/u.test(read(path)));
    expect(calling).toEqual(['test/stack/apt.ts', 'test/stack/install-parts.ts']);
  });

  it('is installed before anything else is done', () => {
    expect(read('.ci/check.mjs')).toMatch(/const STAGES = \[\s*\{\s*name: 'packages'/u);
  });
});

describe('the install script', () => {
  it('is well-formed', () => {
    const { status, stderr } = spawnSync('/bin/sh', ['-n', '-c', INSTALL_SCRIPT], {
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});
