import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import type { MachineReport } from './report.ts';

export function describeMachine(): MachineReport {
  return {
    cpuModel: cpus()[0]?.model.trim() ?? 'unknown',
    coreCount: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release().split('.').slice(0, 2).join('.')}`,
    node: process.version,
    v8: process.versions.v8,
    loadBefore: Math.round(loadavg()[0]! * 100) / 100,
  };
}

/** In one line each. */
export function machineLines(machine: MachineReport): string[] {
  const { cpuModel, coreCount, memoryGib, kernel, node, v8, loadBefore } = machine;
  return [
    `Processor: ${cpuModel}, ${coreCount} cores`,
    `Memory: ${memoryGib} GiB`,
    `System: ${kernel}, Node.js ${node}, V8 ${v8}`,
    `Load before the run: ${loadBefore} (mean number of tasks that want a core, over a minute)`,
  ];
}
