// The built command, whose fence is renewed and watched by the second in place of the minute.
import { FENCE_TIMES } from '../../dist/reactor/fence-proof.js';

Object.assign(FENCE_TIMES, { renew: 1_000, valid: 3_000, watch: 4_000 });
await import('../../dist/cli/main.js');
