import { Agent as HttpAgent, type AgentOptions } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { HttpProxyAgent, HttpsProxyAgent } from 'hpagent';
import { getProxyForUrl } from 'proxy-from-env';

/** The agents of a client, by the scheme of its requests. */
export interface Agents {
  readonly httpAgent: HttpAgent;
  readonly httpsAgent: HttpsAgent;
}

/**
 * How long one address of a host is tried before the next one. Node's own 250 ms are too short where IPv6 is not
 * routed and the host is far away: then no address is ever reached.
 */
const ADDRESS_MILLISECONDS = 2_500;

/**
 * Agents that keep connections, try each address of a host for long enough, and go through the proxy that
 * HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for the given host. Node's own agents ignore these variables.
 *
 * @param host of the requests; with a port where it is not the scheme's.
 */
export function createAgents(host: string, maxSockets: number): Agents {
  const options: AgentOptions & { autoSelectFamilyAttemptTimeout: number } = {
    keepAlive: true,
    maxSockets,
    autoSelectFamilyAttemptTimeout: ADDRESS_MILLISECONDS,
  };
  const httpProxy = proxyFor('http', host);
  const httpsProxy = proxyFor('https', host);
  return {
    httpAgent:
      httpProxy === undefined
        ? new HttpAgent(options)
        : new HttpProxyAgent({ ...options, proxy: httpProxy }),
    httpsAgent:
      httpsProxy === undefined
        ? new HttpsAgent(options)
        : new HttpsProxyAgent({ ...options, proxy: httpsProxy }),
  };
}

/** This machine is not behind its proxy. */
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/u;

/** @throws in words, since the URL's own error quotes the password. */
function proxyFor(scheme: 'http' | 'https', host: string): string | undefined {
  if (LOOPBACK.test(host)) return undefined;
  const proxy = getProxyForUrl(`${scheme}://${host}`);
  if (proxy === '') return undefined;
  if (URL.canParse(proxy)) return proxy;
  const variable = `${scheme.toUpperCase()}_PROXY`;
  throw new Error(
    `expected ${variable} to be a URL such as http://proxy:3128, given something else`,
  );
}
