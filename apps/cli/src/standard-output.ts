import { EXIT_PIPE_CLOSED } from './exit-codes.ts';

let isDispensable = false;
let onReaderGone: () => void = () => process.exit(EXIT_PIPE_CLOSED);

/** Whoever read the output has seen enough: that ends a command. What else stdout cannot take is an error of it. */
export function watchStandardOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') onReaderGone();
    else if (!isDispensable) throw error;
  });
  process.stderr.on('error', () => undefined); // a daemon goes on when nobody hears what it says
}

/**
 * For a daemon, which others use while it prints: what stdout has no room for is dropped. Resolves, with the exit code, when whoever
 * read it is gone, for the daemon to end in order.
 */
export function standardOutputOfDaemon(): Promise<number> {
  isDispensable = true;
  return new Promise((resolve) => {
    onReaderGone = () => resolve(EXIT_PIPE_CLOSED);
  });
}
