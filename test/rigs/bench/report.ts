import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { PAYLOAD_BYTES, POSTGRES_SETTINGS, TENANTS } from './bench.ts';
import type { Summary } from './figure.ts';
import type { BenchOptions } from './options.ts';

/** What the JSON file holds. Keys may be added, never renamed. */
export interface Report {
  readonly measured_at: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly gigabytes: number };
  readonly node: string;
  readonly postgres: {
    readonly major: number;
    readonly settings: Readonly<Record<string, string>>;
    /** Whether its shared memory was in huge pages. */
    readonly huge_pages: boolean;
  };
  /** The application's. */
  readonly table: { readonly payload_bytes: number; readonly tenants: number };
  readonly runs: number;
  readonly scale: number;
  readonly seconds: number;
  readonly figures: readonly ReportedFigure[];
}

interface ReportedFigure {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  readonly target: string | null;
  readonly met: boolean | null;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly samples: readonly number[];
  readonly detail: string | null;
}

/** Puts together what was measured, where and how. */
export function makeReport(
  summaries: readonly Summary[],
  options: BenchOptions,
  run: { readonly seconds: number; readonly postgresMajor: number },
): Report {
  const processors = cpus();
  return {
    measured_at: new Date().toISOString(),
    machine: {
      cpu: processors[0]?.model ?? 'unknown',
      cores: processors.length,
      gigabytes: Math.round(totalmem() / 1024 ** 3),
    },
    node: process.version,
    postgres: {
      major: run.postgresMajor,
      settings: SERVER_SETTINGS,
      huge_pages: false,
    },
    table: { payload_bytes: PAYLOAD_BYTES, tenants: TENANTS },
    runs: options.runs,
    scale: options.scale,
    seconds: Math.round(run.seconds),
    figures: summaries.map((it) => ({
      name: it.name,
      title: it.title,
      unit: it.unit,
      target: it.target === undefined ? null : `${it.target.is} ${it.target.value}`,
      met: it.isMet ?? null,
      median: it.median,
      min: it.min,
      max: it.max,
      samples: it.samples,
      detail: it.detail ?? null,
    })),
  };
}

const SERVER_SETTINGS = { ...POSTGRES_SETTINGS, fsync: 'on', full_page_writes: 'on' };

/** The server and the table behind the figures, as a sentence. */
export function describeServer(major: number): string {
  const settings = Object.entries(SERVER_SETTINGS).map(([name, value]) => `${name} = ${value}`);
  return (
    `PostgreSQL ${major} with ${settings.join(', ')}, all else at its defaults; ` +
    `the application's table has ${PAYLOAD_BYTES} bytes of payload in each row and ${TENANTS} tenants.`
  );
}

/** Writes the JSON file. */
export function writeReport(report: Report, file: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
}

/** The table, as Markdown, so that it can be read here and pasted there. */
export function formatTable(summaries: readonly Summary[]): string {
  const rows = summaries.map((it) => [
    it.title,
    formatValue(it.median, it.unit),
    `${formatNumber(it.min)}–${formatNumber(it.max)}`,
    it.target === undefined ? '' : `${it.target.is} ${it.target.value}`,
    it.isMet === undefined ? '' : it.isMet ? 'met' : 'missed',
    it.detail ?? '',
  ]);
  const lines = [['figure', 'median', 'min–max', 'target', '', 'behind it'], ...rows];
  const widths = lines[0]?.map((_, column) =>
    Math.max(...lines.map((it) => it[column]?.length ?? 0)),
  );
  const format = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths?.[column] ?? 0)).join(' | ')} |`;
  const rule = format((widths ?? []).map((width) => '-'.repeat(width)));
  return [format(lines[0] ?? []), rule, ...rows.map(format)].join('\n');
}

function formatValue(value: number, unit: string): string {
  return unit === '×' ? `${formatNumber(value)} ×` : `${formatNumber(value)} ${unit}`;
}

function formatNumber(value: number): string {
  if (Math.abs(value) >= 100) return String(Math.round(value));
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
