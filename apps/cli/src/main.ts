import { EXIT_PIPE_CLOSED } from './exit-codes.ts';
import { createProgram } from './program.ts';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_PIPE_CLOSED); // whoever read the output has seen enough
  throw error;
});
process.stderr.on('error', () => undefined); // a daemon goes on when nobody hears what it says
const program = await createProgram(process.argv.slice(2));
await program.parseAsync(process.argv);
