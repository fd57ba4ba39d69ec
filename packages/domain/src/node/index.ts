import {
  type ProcessMachine,
  type ProcessMachineOptions,
  createProcessMachine,
} from '@virtlab/hypervisor/node';

/** A machine whose domains are processes that run `DomainProgramModule`s. Needs the FFI, see `@virtlab/linux`. */
export function createDomainMachine(options: Omit<ProcessMachineOptions, 'entry'> = {}): ProcessMachine {
  const entry = new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url);
  return createProcessMachine({ ...options, entry });
}

export type { ProcessMachine } from '@virtlab/hypervisor/node';
