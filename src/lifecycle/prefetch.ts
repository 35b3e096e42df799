/**
 * Yields the same items, and asks for the next one while the caller works on the present one. A
 * caller that breaks off does not wait for the request under way.
 */
export async function* prefetch<Item>(items: AsyncIterable<Item>): AsyncGenerator<Item> {
  const iterator: AsyncIterator<Item, unknown> = items[Symbol.asyncIterator]();
  let next = iterator.next();
  try {
    for (;;) {
      const result = await next;
      if (result.done === true) return;
      next = iterator.next();
      // The next turn of this loop awaits it; after a break its failure does not matter.
      next.catch(() => undefined);
      yield result.value;
    }
  } finally {
    iterator.return?.().catch(() => undefined);
  }
}
