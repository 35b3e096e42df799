import { setFlagsFromString } from 'node:v8';

/**
 * V8's young generation grows to 32 MB in Node 20 and 128 MB in Node 24 and never shrinks, so a
 * listener would stay twice as large after a backlog. A few batches in flight need less: the young
 * generation keeps its first size, and the old one is collected after growing by this much.
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
  // V8 reads these two at each collection, unlike --max-semi-space-size.
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString(`--heap-growing-percent=${OLD_GENERATION_GROWTH_PERCENT}`);
}
