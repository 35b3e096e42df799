/**
 * How long one address of a host is tried before the next one. Node's 250 ms are less than a distant server
 * needs for its first answer: where the host also has an address of a family that is not routed, no address
 * would ever be reached. Two seconds also outlast one lost packet. (RFC 8305; Node: net.connect)
 */
const ATTEMPT_MILLISECONDS = 2_000;

/** Options of `net.connect`, and of an agent of `node:http`, for a host with addresses of both families. */
export const ADDRESS_ATTEMPTS = {
  autoSelectFamily: true,
  autoSelectFamilyAttemptTimeout: ATTEMPT_MILLISECONDS,
} as const;
