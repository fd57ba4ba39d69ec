import type { Command } from 'commander';
import { daemonCommand } from './daemon-command.ts';
import { modulePlan } from './module-plan.ts';

/** `virtlab vhost-user-device`: what a module of the user's makes. */
export function moduleCommand(): Command {
  const command: Command = daemonCommand<object>({
    name: 'vhost-user-device',
    description:
      'A device of your own. The module, in TypeScript or JavaScript, exports either createDevice, a function without\n' +
      'arguments that makes a VirtioDevice, or backend, a BlockBackend that becomes a disk. Such a disk has 64 queues, so that\n' +
      'a guest may have as many processors, and this one thread serves them. What the module imports of @virtlab it has of\n' +
      'this command where it is not installed beside it.',
    device: () => modulePlan(command.args[0]),
  }).argument('[module]', 'the file');
  return command;
}
