import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { idleShare } from './other-load.ts';
import type { MachineReport } from './report.ts';

/** Takes a second: it looks at what the machine does before we do anything. */
export async function describeMachine(): Promise<MachineReport> {
  return {
    cpuModel: cpus()[0]?.model.trim() ?? 'unknown',
    coreCount: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release().split('.').slice(0, 2).join('.')}`,
    node: process.version,
    v8: process.versions.v8,
    idleShareBefore: await idleShare(),
    loadBefore: Math.round(loadavg()[0]! * 100) / 100,
  };
}

/** In one line each. */
export function machineLines(machine: MachineReport): string[] {
  const { cpuModel, coreCount, memoryGib, kernel, node, v8, loadBefore, idleShareBefore } = machine;
  return [
    `Processor: ${cpuModel}, ${coreCount} cores`,
    `Memory: ${memoryGib} GiB`,
    `System: ${kernel}, Node.js ${node}, V8 ${v8}`,
    `Load before the run: ${loadBefore} (mean number of tasks that want a core, over a minute), ${formatShare(idleShareBefore)} idle`,
  ];
}

/** `12 %` */
export function formatShare(share: number): string {
  return `${Math.round(share * 100)} %`;
}
