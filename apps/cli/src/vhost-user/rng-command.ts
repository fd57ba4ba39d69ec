import type { Command } from 'commander';
import { RNG_CAPABILITIES } from './capabilities.ts';
import { daemonCommand } from './daemon-command.ts';

export function rngCommand(): Command {
  return daemonCommand<object>({
    name: 'vhost-user-rng',
    description: 'A source of entropy for QEMU’s -device vhost-user-rng-pci.',
    capabilities: RNG_CAPABILITIES,
    device: () => ({ kind: 'rng' }),
  });
}
