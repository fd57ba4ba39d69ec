import { EXIT_INTERRUPTED, EXIT_TERMINATED } from './exit-codes.ts';

/** The first SIGINT or SIGTERM; a second one ends the process at once. */
export class EndSignals {
  readonly first: Promise<NodeJS.Signals>;
  readonly #resolve: (signal: NodeJS.Signals) => void;
  #hasCome = false;
  readonly #take = (signal: NodeJS.Signals): void => {
    if (this.#hasCome) process.exit(exitCodeOf(signal));
    this.#hasCome = true;
    this.#resolve(signal);
  };

  constructor() {
    const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
    this.first = promise;
    this.#resolve = resolve;
    process.on('SIGINT', this.#take);
    process.on('SIGTERM', this.#take);
  }

  release(): void {
    process.off('SIGINT', this.#take);
    process.off('SIGTERM', this.#take);
  }
}

export function exitCodeOf(signal: NodeJS.Signals): number {
  return signal === 'SIGINT' ? EXIT_INTERRUPTED : EXIT_TERMINATED;
}
