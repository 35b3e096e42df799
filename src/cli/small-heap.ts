import { setFlagsFromString } from 'node:v8';

/**
 * V8 lets its heap grow with what passes through it: the young generation doubles while anything in
 * it survives, up to 32 MB in Node 20 and 128 MB in Node 24, and the old one is collected when it has
 * grown several times over. It gives nothing of that back, so that a listener which has worked off a
 * backlog would stay twice as large as one that has not. What is in flight is a few batches at most:
 * the young generation stays as small as it begins, and the old one is collected when it has grown
 * by this much.
 */
const OLD_GENERATION_GROWTH_PERCENT = 30;

/** The flags by which someone may have decided it otherwise. */
const DECIDED = /--(?:max|min)[-_]semi[-_]space|--semi[-_]space|--heap[-_]growing/u;

/**
 * Keeps the memory of a process that runs long flat, whatever passes through it. Called before what
 * is heavy is loaded, while the young generation is small. Whoever started Node with flags on this
 * is left to them.
 */
export function keepHeapSmall(): void {
  if (DECIDED.test([...process.execArgv, process.env['NODE_OPTIONS']].join(' '))) return;
  // Unlike --max-semi-space-size, these two are looked at each time and not only when Node starts.
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString(`--heap-growing-percent=${OLD_GENERATION_GROWTH_PERCENT}`);
}
