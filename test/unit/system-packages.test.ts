import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import type { PostgresServer } from '../../src/demo/find-postgres.ts';
import { INSTALL_SCRIPT } from '../../src/demo/install-script.ts';
import { installCommand, type PackageFacts, planPostgres } from '../../src/demo/system-packages.ts';

function server(major: number, hasCron: boolean): PostgresServer {
  return { major, binFolder: `/usr/lib/postgresql/${major}/bin`, hasCron };
}

// A bare Debian 12, with root.
const bare: PackageFacts = {
  servers: [],
  cron: true,
  hasApt: true,
  right: 'root',
  distributionMajor: 15,
  isOffered: (name) => ['postgresql-15', 'postgresql-15-cron'].includes(name),
};

describe('a machine that has what is needed', () => {
  test('uses the newest server', () => {
    const servers = [server(17, true), server(15, true)];
    expect(planPostgres({ ...bare, servers })).toEqual({ kind: 'use', server: servers[0] });
  });

  test('prefers an older server with pg_cron to a newer one without', () => {
    const servers = [server(17, false), server(15, true)];
    expect(planPostgres({ ...bare, servers })).toEqual({ kind: 'use', server: servers[1] });
  });

  test('asks for no pg_cron when none is wanted', () => {
    const servers = [server(17, false)];
    const plan = planPostgres({ ...bare, servers, cron: false, hasApt: false, right: 'none' });
    expect(plan).toEqual({ kind: 'use', server: servers[0] });
  });
});

describe('a machine that lacks something', () => {
  test('installs server and pg_cron of the distribution', () => {
    const packages = ['postgresql-15', 'postgresql-15-cron'];
    expect(planPostgres(bare)).toEqual({ kind: 'install', packages });
    expect(planPostgres({ ...bare, right: 'sudo' })).toEqual({ kind: 'install', packages });
  });

  test('installs the server alone when no pg_cron is wanted', () => {
    const plan = planPostgres({ ...bare, cron: false });
    expect(plan).toEqual({ kind: 'install', packages: ['postgresql-15'] });
  });

  test('completes a server that lacks pg_cron only', () => {
    const plan = planPostgres({ ...bare, servers: [server(15, false)] });
    expect(plan).toEqual({ kind: 'install', packages: ['postgresql-15-cron'] });
  });

  test('installs the distribution beside a server for which there is no pg_cron', () => {
    const plan = planPostgres({ ...bare, servers: [server(14, false)] });
    expect(plan).toEqual({ kind: 'install', packages: ['postgresql-15', 'postgresql-15-cron'] });
  });
});

describe('a machine where nothing may be installed', () => {
  function refusal(facts: Partial<PackageFacts>): string {
    const plan = planPostgres({ ...bare, ...facts });
    return plan.kind === 'refuse' ? plan.message : `not refused: ${plan.kind}`;
  }

  test('names the exact command when the right is missing', () => {
    expect(refusal({ right: 'none' })).toContain(
      installCommand(['postgresql-15', 'postgresql-15-cron']),
    );
  });

  test('says that this is no Debian', () => {
    expect(refusal({ hasApt: false })).toMatch(/pg_cron.*only on Debian and Ubuntu/);
  });

  test('says that the package sources offer none', () => {
    expect(refusal({ isOffered: () => false })).toMatch(/package sources .* offer none/);
    expect(refusal({ distributionMajor: undefined })).toMatch(/package sources .* offer none/);
  });
});

test('the install script is well-formed', () => {
  const { status, stderr } = spawnSync('/bin/sh', ['-n', '-c', INSTALL_SCRIPT], {
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
