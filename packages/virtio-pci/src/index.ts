export {
  type AccessWidth,
  type DoorbellRegistrar,
  type IntxLine,
  type MsiSink,
  type NotifyAddress,
  type PciBar,
  type PciFunction,
} from './pci-function.ts';
export { type PciAccess, formatBdf, pciBdf } from './pci-access.ts';
export {
  type VirtioPciFunction,
  type VirtioPciFunctionOptions,
  type VirtioPciStatistics,
  createVirtioPciFunction,
} from './virtio-pci-function.ts';
export { type PciBus, type PciBusStatistics, type PciLocation, createPciBus } from './pci-bus.ts';
export { type KickPath, type PciDoorbells, createPciDoorbells } from './doorbells.ts';
export {
  type BarAssignment,
  type MemoryWindow,
  type PciFunctionInfo,
  assignBars,
  enumeratePci,
} from './enumerate.ts';
export {
  type InProcessInterruptController,
  type InterruptController,
  type InterruptControllerOptions,
  type InterruptStatistics,
  type InterruptVectors,
  type MsiMessage,
  createInterruptController,
} from './interrupt-controller.ts';
export { type ConnectVirtioPciOptions, type VirtioPciLink, connectVirtioPci } from './connect.ts';
export type { CallMode } from './call-routing.ts';
export type { InterfaceKind } from './function-identity.ts';
export type { VirtioPciDriverTransport } from './driver-transport.ts';
