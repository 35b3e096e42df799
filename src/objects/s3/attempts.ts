import type { DeleteObjectCommand, DeleteObjectsCommand } from '@aws-sdk/client-s3';
import { safeNow } from '../../lifecycle/clock.ts';
import { classify, NeverSent } from './failures.ts';

/**
 * Counts the attempts of a call that were sent and got no answer. What a call comes to does not tell:
 * it may end with the refusal, or the success, of its last attempt while the store is still at an
 * earlier one that took too long.
 */
export class Attempts {
  readonly #endsAt: number;
  #unanswered = 0;

  /** @param endsAt none is sent after it, in milliseconds of `safeNow()`. */
  constructor(endsAt = Infinity) {
    this.#endsAt = endsAt;
  }

  /** Whether the store may still perform one of them; an attempt that is waited for is one. */
  get areUnanswered(): boolean {
    return this.#unanswered > 0;
  }

  /** The last answer was none of the store's. */
  disbelieve(): void {
    this.#unanswered += 1;
  }

  watch(command: DeleteObjectCommand | DeleteObjectsCommand): void {
    const stack = command.middlewareStack as Stack;
    let isSent = false;
    const settle = (): void => {
      if (isSent) this.#unanswered -= 1;
    };
    const judge: Middleware = (next) => async (args) => {
      isSent = false;
      try {
        const result = await next(args);
        settle();
        return result;
      } catch (error) {
        if (classify(error).outcome !== 'unknown') settle();
        throw error;
      }
    };
    const note: Middleware = (next) => (args) => {
      if (safeNow() > this.#endsAt) return Promise.reject(tooLate());
      isSent = true;
      this.#unanswered += 1;
      return next(args);
    };
    stack.addRelativeTo(judge, {
      name: 'judgeAttempt',
      relation: 'after',
      toMiddleware: 'retryMiddleware',
    });
    // Innermost: what fails before it, such as the look for credentials, sends nothing.
    stack.add(note, { name: 'noteAttempt', step: 'deserialize', priority: 'low' });
  }
}

function tooLate(): Error {
  return new NeverSent('its time was over before it was sent');
}

type Handler = (args: object) => Promise<object>;
type Middleware = (next: Handler) => Handler;

/** What is used of a command's stack, whose own type differs from command to command. */
interface Stack {
  add(
    middleware: Middleware,
    options: { readonly name: string; readonly step: 'deserialize'; readonly priority: 'low' },
  ): void;
  addRelativeTo(
    middleware: Middleware,
    options: {
      readonly name: string;
      readonly relation: 'after';
      readonly toMiddleware: string;
    },
  ): void;
}
