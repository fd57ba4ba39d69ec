import {
  type ProcessMachine,
  type ProcessMachineOptions,
  createProcessMachine,
} from '@virtlab/hypervisor/node';

export interface DomainMachineOptions extends Omit<ProcessMachineOptions, 'entry'> {
  /** A module that imports `@virtlab/domain/node/process`, for whoever bundles it. Default: that module itself. */
  readonly entry?: URL;
}

/** A machine whose domains are processes that run `DomainProgramModule`s. Needs the FFI, see `@virtlab/linux`. */
export function createDomainMachine(options: DomainMachineOptions = {}): ProcessMachine {
  const entry = new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url);
  return createProcessMachine({ entry, ...options });
}

export type { ProcessMachine } from '@virtlab/hypervisor/node';
