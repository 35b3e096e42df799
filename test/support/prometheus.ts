import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { findFreePort } from '../stack/free-port.ts';
import { until } from './until.ts';

/** A Prometheus that scrapes what a test tells it to. */
export interface Prometheus {
  /** Asks its HTTP interface; returns the `data` of the answer. */
  ask<Data>(path: string, parameters?: Readonly<Record<string, string>>): Promise<Data>;
}

/** A series of an answer to a query. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  /** Of an instant query. */
  readonly value?: readonly [number, string];
  /** Of a range. */
  readonly values?: readonly (readonly [number, string])[];
}

/** How a Prometheus is started. */
export interface PrometheusOptions {
  readonly program: string;
  /** `host:port`, one for each listener. */
  readonly targets: readonly string[];
  /** Files with rules, evaluated every second. */
  readonly ruleFiles: readonly string[];
}

/** Starts a Prometheus in a scratch folder, on the loopback; it ends with the test that calls this. */
export async function startPrometheus(options: PrometheusOptions): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'retention-prometheus-'));
  const port = await findFreePort('127.0.0.1');
  const rules = options.ruleFiles.map((file, index) => {
    copyFileSync(file, join(folder, `rules-${index}.yaml`));
    return `rules-${index}.yaml`;
  });
  const configuration = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: rules,
    scrape_configs: [
      { job_name: 'retention', static_configs: [{ targets: [...options.targets] }] },
    ],
  };
  writeFileSync(join(folder, 'prometheus.yml'), stringify(configuration));
  const child = spawn(
    options.program,
    [
      '--config.file=prometheus.yml',
      '--storage.tsdb.path=data',
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'close');
  onTestFinished(async () => {
    child.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const base = `http://127.0.0.1:${port}`;
  await until('Prometheus is ready', async () => (await fetch(`${base}/-/ready`)).ok, {
    limitMs: 30_000,
    pollMs: 100,
    seen: () => said,
  });
  return {
    ask: async <Data>(path: string, parameters = {}) => {
      const query = new URLSearchParams(parameters).toString();
      const reply = await fetch(`${base}/api/v1/${path}?${query}`);
      const answer = (await reply.json()) as { status: string; data: Data; error?: string };
      if (answer.status === 'success') return answer.data;
      throw new Error(`Prometheus refuses ${path}?${query}: ${answer.error}`);
    },
  };
}
