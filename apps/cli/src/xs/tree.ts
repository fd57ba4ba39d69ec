import type { Command } from 'commander';
import pc from 'picocolors';
import { wholeNumber } from '../option-values.ts';
import { formatPermission, formatPermissions } from './permissions.ts';
import { type StoreFlags, storeCommand, withStore } from './session.ts';
import { escapeValue, jsonDocument, jsonValue } from './values.ts';
import { type WalkedNode, walk } from './walk.ts';

interface TreeFlags extends StoreFlags {
  readonly depth?: number;
  readonly prefix: boolean;
}

/** `virtlab xs tree`. Lines are cut to the terminal's width. */
export function treeCommand(): Command {
  return storeCommand('tree')
    .argument('[path]', 'where to begin', '/')
    .option('-d, --depth <count>', 'levels below the beginning', wholeNumber)
    .option('-p, --prefix', 'with permissions, the owner first', false)
    .action(tree);
}

function tree(root: string, flags: TreeFlags): Promise<void> {
  return withStore(flags, async (store) => {
    const options = {
      permissions: flags.prefix,
      ...(flags.depth === undefined ? {} : { depthMax: flags.depth - 1 }),
    };
    const nodes = walk(store, root, options);
    if (flags.json) process.stdout.write(jsonDocument({ path: root, children: await nest(nodes) }));
    else await draw(root, nodes);
  });
}

async function draw(root: string, nodes: AsyncIterable<WalkedNode>): Promise<void> {
  /** For each depth, whether the line of that directory goes on below. */
  const goesOn: boolean[] = [];
  const width = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY;
  let text = `${pc.bold(root)}\n`;
  for await (const node of nodes) {
    goesOn[node.depth] = !node.isLastChild;
    const lines = goesOn.slice(0, node.depth).map((on) => (on ? '│   ' : '    '));
    const branch = `${lines.join('')}${node.isLastChild ? '└── ' : '├── '}`;
    const permissions = node.permissions === undefined ? '' : formatPermissions(node.permissions);
    const value = shownValue(node, width - branch.length - node.name.length - permissions.length);
    text += `${pc.dim(branch)}${node.name}${pc.green(value)}${pc.cyan(permissions)}\n`;
  }
  process.stdout.write(text);
}

function shownValue({ value }: WalkedNode, room: number): string {
  if (value === undefined || value.length === 0) return '';
  const text = ` = "${escapeValue(value)}"`;
  return text.length <= room ? text : `${text.slice(0, Math.max(0, room - 1))}…`;
}

interface JsonTree {
  readonly name: string;
  readonly permissions?: readonly string[];
  readonly children: JsonTree[];
}

async function nest(nodes: AsyncIterable<WalkedNode>): Promise<JsonTree[]> {
  const roots: JsonTree[] = [];
  /** The children of the node that the walk is in, for each depth. */
  const open: JsonTree[][] = [roots];
  for await (const { name, depth, value, permissions } of nodes) {
    const children: JsonTree[] = [];
    open[depth]!.push({
      name,
      ...(value === undefined ? {} : jsonValue(value)),
      ...(permissions === undefined ? {} : { permissions: permissions.map(formatPermission) }),
      children,
    });
    open[depth + 1] = children;
  }
  return roots;
}
