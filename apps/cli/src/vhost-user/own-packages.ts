/**
 * A user's module may lie anywhere. What it asks virtlab's packages for it finds beside itself where they are installed, and else
 * beside this command.
 */
import * as nodeModule from 'node:module';

const OWN_SPECIFIER = /^@virtlab\//;
/** Of `import` and of `require`. */
const NOT_FOUND: ReadonlySet<string> = new Set(['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND']);

/** A Node older than 22.15 has no such function, whatever the types say. */
type Hooking = Partial<Pick<typeof nodeModule, 'registerHooks'>>;

/**
 * From now on in this thread: a `@virtlab/…` specifier that its importer's own place does not have is resolved from here. Nothing
 * happens where Node has no hooks.
 */
export function lendOwnPackages({ registerHooks }: Hooking = nodeModule): void {
  registerHooks?.({
    resolve: (specifier, context, nextResolve) => {
      try {
        return nextResolve(specifier, context);
      } catch (error) {
        if (!OWN_SPECIFIER.test(specifier) || !isNotFound(error)) throw error;
        try {
          return { url: import.meta.resolve(specifier), shortCircuit: true };
        } catch {
          throw error; // neither has it: where it was looked for first is the place to mend
        }
      }
    },
  });
}

/** What to do about an error of loading, where this Node could not lend; otherwise nothing. */
export function adviceFor(error: unknown, { registerHooks }: Hooking = nodeModule): string | undefined {
  const isOurs = error instanceof Error && error.message.includes('@virtlab/');
  if (registerHooks !== undefined || !isOurs || !isNotFound(error)) return undefined;
  return `Node ${process.version} finds packages only beside the module: install virtlab's there, or use Node 22.15 or newer`;
}

function isNotFound(error: unknown): boolean {
  return NOT_FOUND.has((error as NodeJS.ErrnoException | undefined)?.code ?? '');
}
