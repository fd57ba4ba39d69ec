export { connectHypervisor } from './connect.ts';
export { createProcessMachine, type ProcessMachine, type ProcessMachineOptions } from './process-machine.ts';
