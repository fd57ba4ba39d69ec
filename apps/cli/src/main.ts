import { createProgram } from './program.ts';
import { watchStandardOutput } from './standard-output.ts';

watchStandardOutput();
const program = await createProgram(process.argv.slice(2));
await program.parseAsync(process.argv);
