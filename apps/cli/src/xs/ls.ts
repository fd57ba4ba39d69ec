import type { Command } from 'commander';
import { type LsLayout, lsLayout, lsLine } from './ls-line.ts';
import { formatPermission } from './permissions.ts';
import { type StoreFlags, storeCommand, withStore } from './session.ts';
import { jsonDocument, jsonValue } from './values.ts';
import { type WalkedNode, walk } from './walk.ts';

interface LsFlags extends StoreFlags {
  readonly flat: boolean;
  readonly prefix: boolean;
}

/** Characters that are collected before they are written. */
const CHUNK_SIZE = 1 << 16;

/** `virtlab xs ls`: xenstore-ls(1). Values are cut to the terminal's width, or to 80 columns; with -f on a terminal only. */
export function lsCommand(): Command {
  return storeCommand('ls')
    .argument('[path...]', 'where to begin (default: the root)')
    .option('-f, --flat', 'whole paths, values not cut', false)
    .option('-p, --prefix', 'with permissions', false)
    .action(ls);
}

function ls(paths: readonly string[], flags: LsFlags): Promise<void> {
  const { isTTY, columns } = process.stdout;
  const layout = lsLayout(flags.flat, flags.prefix, isTTY ? columns : undefined);
  const roots = paths.length === 0 ? ['/'] : paths;
  return withStore(flags, async (store) => {
    const found: object[] = [];
    for (const root of roots) {
      const nodes = walk(store, root, { permissions: flags.prefix });
      if (flags.json) for await (const node of nodes) found.push(jsonNode(node));
      else await printNodes(nodes, layout);
    }
    if (flags.json) process.stdout.write(jsonDocument(found));
  });
}

async function printNodes(nodes: AsyncIterable<WalkedNode>, layout: LsLayout): Promise<void> {
  let text = '';
  try {
    for await (const node of nodes) {
      text += lsLine(node, layout);
      if (layout.permissions && node.permissions === undefined) {
        process.stderr.write(`virtlab: could not access permissions for ${node.name}\n`);
      }
      if (text.length < CHUNK_SIZE) continue;
      process.stdout.write(text);
      text = '';
    }
  } finally {
    process.stdout.write(text);
  }
}

function jsonNode({ path, value, permissions }: WalkedNode): object {
  return {
    path,
    ...(value === undefined ? {} : jsonValue(value)),
    ...(permissions === undefined ? {} : { permissions: permissions.map(formatPermission) }),
  };
}
