import { readFileSync } from 'node:fs';
import { readmeExample } from './extract.ts';

export interface SameCode {
  readonly readme: string;
  readonly test: string;
}

/**
 * The example of a README without its imports, and the code of a test between `// usage` and `// end of usage`, both
 * without what only a formatter decides: where they are equal, the compiler has checked the README.
 */
export function readmeExampleAndTest(readme: URL, test: URL | string): SameCode {
  const [, code] = /\/\/ usage\n([^]*?)\/\/ end of usage/.exec(readFileSync(new URL(test), 'utf8')) ?? [];
  if (code === undefined) throw new Error(`${String(test)} has no code between the marks`);
  return {
    readme: unformatted(readmeExample(readme).replaceAll(/^import .*;$/gm, '')),
    test: unformatted(code),
  };
}

function unformatted(code: string): string {
  return code.replaceAll(/\s+|,(?=\s*[})\]])/g, '');
}
