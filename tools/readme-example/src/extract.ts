import { readFileSync } from 'node:fs';

/** The first block of TypeScript below a heading of a README. Throws when there is none before the next such heading. */
export function readmeExample(readme: URL, heading: string = '## Usage'): string {
  const text = readFileSync(readme, 'utf8');
  const start = `\n${text}`.indexOf(`\n${heading}\n`);
  if (start < 0) throw new Error(`${readme.pathname} has no line "${heading}"`);
  const code = firstBlock(text.slice(start + heading.length));
  if (code === undefined) throw new Error(`"${heading}" of ${readme.pathname} has no block of TypeScript`);
  return code;
}

/** Line by line, because within a block a line may look like a heading. */
function firstBlock(text: string): string | undefined {
  let fence: string | undefined;
  const code: string[] = [];
  for (const line of text.split('\n').slice(1)) {
    if (fence === undefined) {
      if (/^#{1,2} /.test(line)) return undefined;
      if (line.startsWith('```')) fence = line;
    } else if (line === '```') {
      if (fence === '```ts') return code.map((each) => `${each}\n`).join('');
      fence = undefined;
    } else if (fence === '```ts') {
      code.push(line);
    }
  }
  return undefined;
}
