import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type CommandEntry, addCommands, newCommand } from './command-table.ts';
import { EXIT_USAGE } from './exit-codes.ts';

const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'demo',
    summary:
      'boots domain 0 and guests as processes, runs real work over each transport, shuts down in order',
    load: async () => (await import('./demo-command.ts')).demoCommand(),
  },
  {
    name: 'vhost-user-blk',
    summary: 'a disk for a guest of QEMU, served by vhost-user',
    load: async () => (await import('./vhost-user/blk-command.ts')).blkCommand(),
  },
  {
    name: 'vhost-user-net',
    summary: 'network cards for guests of QEMU on one switch, served by vhost-user',
    load: async () => (await import('./vhost-user/net-command.ts')).netCommand(),
  },
  {
    name: 'vhost-user-rng',
    summary: 'a source of entropy for a guest of QEMU, served by vhost-user',
    load: async () => (await import('./vhost-user/rng-command.ts')).rngCommand(),
  },
  {
    name: 'vhost-user-device',
    summary: 'a device of your own for a guest of QEMU: a module that makes it, served by vhost-user',
    load: async () => (await import('./vhost-user/module-command.ts')).moduleCommand(),
  },
  {
    name: 'xenstored',
    summary: 'a xenstore daemon on a Unix socket, in the foreground',
    load: async () => (await import('./xenstored/xenstored-command.ts')).xenstoredCommand(),
  },
  {
    name: 'xs',
    summary: 'reads, changes and watches a xenstore, as the xenstore-* programs do',
    load: async (rest) => (await import('./xs/xs-command.ts')).xsCommand(rest),
  },
];

/**
 * The `virtlab` command, with what the command that `args` begins with needs. Errors go to stderr; exit codes are
 * those of `exit-codes.ts`.
 */
export async function createProgram(args: readonly string[]): Promise<Command> {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const program = newCommand('virtlab', EXIT_USAGE)
    .description(
      'A laboratory for virtio transports: one driver and one device over virtio_pci, virtio_xenbus and vhost-user',
    )
    .version(version)
    .enablePositionalOptions()
    .showHelpAfterError('(virtlab --help shows what there is)');
  await addCommands(program, COMMANDS, args);
  return program;
}
