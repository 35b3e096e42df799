/**
 * The same items, each next one asked for before the one before it is handed out, so that it comes
 * while that is worked on. Who breaks off does not wait for the one under way.
 */
export async function* ahead<Item>(items: AsyncIterable<Item>): AsyncGenerator<Item> {
  const iterator: AsyncIterator<Item, unknown> = items[Symbol.asyncIterator]();
  let next = iterator.next();
  try {
    for (;;) {
      const result = await next;
      if (result.done === true) return;
      next = iterator.next();
      // Whoever asks for it hears of it, and after a break nobody does.
      next.catch(() => undefined);
      yield result.value;
    }
  } finally {
    iterator.return?.().catch(() => undefined);
  }
}
