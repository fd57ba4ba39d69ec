import type { Command } from 'commander';
import { type CommandEntry, addCommands, newCommand } from '../command-table.ts';
import { EXIT_FAILED } from '../exit-codes.ts';

const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'ls',
    summary: 'prints a tree with its values',
    load: async () => (await import('./ls.ts')).lsCommand(),
  },
  {
    name: 'read',
    summary: 'prints values',
    load: async () => (await import('./read.ts')).readCommand(),
  },
  {
    name: 'write',
    summary: 'sets values; several in one transaction',
    load: async () => (await import('./write.ts')).writeCommand(),
  },
  {
    name: 'rm',
    summary: 'removes nodes with everything below',
    load: async () => (await import('./rm.ts')).rmCommand(),
  },
  {
    name: 'mkdir',
    summary: 'makes empty nodes where there are none',
    load: async () => (await import('./mkdir.ts')).mkdirCommand(),
  },
  {
    name: 'list',
    summary: 'prints the names of the children',
    load: async () => (await import('./list.ts')).listCommand(),
  },
  {
    name: 'chmod',
    summary: 'sets permissions, such as n0 r5: the owner and what others may, then domain 5',
    load: async () => (await import('./chmod.ts')).chmodCommand(),
  },
  {
    name: 'watch',
    summary: 'prints the path of each change',
    load: async () => (await import('./watch.ts')).watchCommand(),
  },
  {
    name: 'exists',
    summary: 'ends with 0 if all nodes are there, with 1 otherwise',
    load: async () => (await import('./exists.ts')).existsCommand(),
  },
  {
    name: 'tree',
    summary: 'draws a tree with its values',
    load: async () => (await import('./tree.ts')).treeCommand(),
  },
  {
    name: 'control',
    summary: 'sends an administrative command to the daemon',
    load: async () => (await import('./control.ts')).controlCommand(),
  },
  {
    name: 'top',
    summary: 'shows what the daemon is doing',
    load: async () => (await import('../top/top-command.ts')).topCommand(),
  },
];

/** `virtlab xs`, with what the command that `args` begins with needs. */
export async function xsCommand(args: readonly string[]): Promise<Command> {
  const command = newCommand('xs', EXIT_FAILED)
    .enablePositionalOptions()
    .showHelpAfterError('(virtlab xs --help shows what there is)');
  await addCommands(command, COMMANDS, args);
  return command;
}
