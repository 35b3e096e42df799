import type { ConfigurationFault } from '../errors.ts';
import { escapeControls, shorten } from '../safe-text.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A variable that begins like this is meant for this program, so an unknown name is a mistake. */
const OUR_PREFIX = /^(?:DPP_)?RETENTION_/u;

/** A suggestion that differs in more letters than this does not help. */
const MAX_SUGGESTION_DISTANCE = 6;

/**
 * Kubernetes writes variables for every Service of the namespace, also for one that is called
 * "retention" or "retention-reactor", into every pod.
 * (kubernetes.io: Service, discovering services, environment variables)
 */
const KUBERNETES_NAME =
  /_SERVICE_HOST$|_SERVICE_PORT(?:_\w+)?$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?$/u;
const KUBERNETES_ADDRESS = /^(?:tcp|udp|sctp):\/\//u;

/** Whether Kubernetes wrote a variable for a Service. */
export function isKubernetesLink(name: string, value: string): boolean {
  return KUBERNETES_NAME.test(name) || (name.endsWith('_PORT') && KUBERNETES_ADDRESS.test(value));
}

/** A fault for every variable that looks like a setting and is none, with the name it resembles. */
export function findUnknownVariables(
  env: Environment,
  known: readonly string[],
): readonly ConfigurationFault[] {
  return Object.entries(env)
    .filter(([name, value]) => OUR_PREFIX.test(name) && value !== undefined && value !== '')
    .filter(([name]) => !known.includes(name))
    .filter(([name, value]) => !isKubernetesLink(name, value ?? ''))
    .map(([name]) => ({
      name: shorten(escapeControls(name), 80),
      expected: 'a setting that exists',
      // The value of an unknown variable may be a secret.
      given: 'an unknown name',
      remedy: suggest(name, known),
    }));
}

function suggest(name: string, known: readonly string[]): string {
  const nearest = known
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .toSorted((left, right) => left.distance - right.distance)[0];
  return nearest !== undefined && nearest.distance <= MAX_SUGGESTION_DISTANCE
    ? `Did you mean ${nearest.candidate}?`
    : 'Remove it, or look its name up in docs/settings.md.';
}

/** How many letters must be added, removed or changed to make one text the other (Levenshtein). */
export function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const change = from[row - 1] === to[column - 1] ? 0 : 1;
      const replaced = (previous[column - 1] ?? 0) + change;
      const removed = (previous[column] ?? 0) + 1;
      const added = (current[column - 1] ?? 0) + 1;
      current.push(Math.min(replaced, removed, added));
    }
    previous = current;
  }
  return previous[to.length] ?? 0;
}
