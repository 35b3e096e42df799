import { readFileSync } from 'node:fs';

/** A panel of the Grafana dashboard. */
export interface Panel {
  readonly title: string;
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly targets?: readonly { readonly expr: string }[];
}

const FILE = new URL('../../deploy/grafana/dashboard.json', import.meta.url);

/** Every panel of the dashboard. */
export function dashboardPanels(): readonly Panel[] {
  return (JSON.parse(readFileSync(FILE, 'utf8')) as { readonly panels: readonly Panel[] }).panels;
}

/**
 * Every query of the dashboard, as Prometheus gets it.
 *
 * @param rateInterval stands for Grafana's `$__rate_interval`.
 * @throws when a query holds another variable of Grafana's.
 */
export function dashboardQueries(
  rateInterval: string,
): readonly { readonly title: string; readonly query: string }[] {
  return dashboardPanels().flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => {
      const query = expr.replaceAll('$__rate_interval', rateInterval);
      if (query.includes('$'))
        throw new Error(`Panel ${title} holds an unknown variable: ${query}`);
      return { title, query };
    }),
  );
}
