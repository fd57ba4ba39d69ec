export { FrameStream } from './qtest/frame-stream.ts';
export { haltingRom } from './qtest/halting-rom.ts';
export { QemuError } from './qtest/qemu-error.ts';
export { QemuMachine, type PassFd, type QemuMachineOptions, slotBdf } from './qtest/qemu-machine.ts';
export {
  QEMU_COMMAND,
  QEMU_PACKAGE,
  QemuProcess,
  fdPath,
  memoryFile,
  qemuUnavailable,
} from './qtest/qemu-process.ts';
export { QmpConnection, type QmpEvent } from './qtest/qmp-connection.ts';
export {
  QtestConnection,
  type QtestConnectionOptions,
  type QtestStatistics,
} from './qtest/qtest-connection.ts';
export { QtestPciAccess } from './qtest/qtest-pci-access.ts';
export { RamInterrupts } from './qtest/ram-interrupts.ts';
