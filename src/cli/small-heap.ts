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

/** Flags by which a person has chosen the size of the heap. */
const HEAP_FLAGS = /--(?:max|min)[-_]semi[-_]space|--semi[-_]space|--heap[-_]growing/u;

/**
 * Keeps the memory of a long-running process flat. Called before heavy modules are loaded, while the
 * young generation is small. Does nothing where Node was started with flags for this.
 */
export function keepHeapSmall(): void {
  if (HEAP_FLAGS.test([...process.execArgv, process.env['NODE_OPTIONS']].join(' '))) return;
  // Unlike --max-semi-space-size, these two are looked at each time and not only when Node starts.
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString(`--heap-growing-percent=${OLD_GENERATION_GROWTH_PERCENT}`);
}
