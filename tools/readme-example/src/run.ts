import { stripTypeScriptTypes } from 'node:module';
import { readmeExample } from './extract.ts';

export interface ExampleOptions {
  /**
   * Gives what the example imports: `(name) => import(name)` of the test, so that its package resolves the names.
   * Without it the example imports nothing.
   */
  readonly load?: (name: string) => Promise<object>;
  /** What the example uses without having declared it, by name. */
  readonly scope?: Readonly<Record<string, unknown>>;
  /** Expression for what the example came to, evaluated at its end in its own scope. Default: nothing. */
  readonly result?: string;
  /** Default `## Usage`. */
  readonly heading?: string;
}

export interface ExampleRun {
  readonly result: unknown;
  /** The arguments of each `console.log`, in order. */
  readonly printed: readonly (readonly unknown[])[];
}

type AsyncCode = (...values: readonly unknown[]) => Promise<unknown>;
const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => AsyncCode;

/** Runs the example of a README within the test, as the body of an async function. Rejects with what it throws. */
export async function runReadmeExample(
  readme: URL,
  { load = refuse, scope = {}, result = 'undefined', heading }: ExampleOptions = {},
): Promise<ExampleRun> {
  const body = asFunctionBody(readmeExample(readme, heading));
  const printed: unknown[][] = [];
  const names = { ...scope, load, console: { log: (...values: unknown[]) => void printed.push(values) } };
  const run = new AsyncFunction(...Object.keys(names), `'use strict';\n${body}\nreturn (${result});`);
  return { result: await run(...Object.values(names)), printed };
}

async function refuse(name: string): Promise<never> {
  throw new Error(`The example imports ${name} and there is no \`load\``);
}

/** Types are blanked out, imports become declarations, and what was exported is declared only. */
function asFunctionBody(code: string): string {
  return stripTypeScriptTypes(code)
    .replaceAll(/^import ([^'";]+?) from '([^']+)';$/gm, (_line, clause: string, name: string) =>
      declarations(clause, `await load('${name}')`),
    )
    .replaceAll(/^export (?=(?:async |const |let |function |class ))/gm, '');
}

function declarations(clause: string, loaded: string): string {
  if (clause.startsWith('{')) return `const ${clause.replaceAll(/\bas\b/g, ':')} = ${loaded};`;
  const namespace = /^\* as (\w+)$/.exec(clause)?.[1];
  return namespace === undefined
    ? `const { default: ${clause} } = ${loaded};`
    : `const ${namespace} = ${loaded};`;
}
