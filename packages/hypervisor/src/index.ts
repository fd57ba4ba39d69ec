export {
  DEVICE_MODEL_ALIVE,
  DEVICE_MODEL_DEAD,
  DEVICE_MODEL_DOMAIN_SHIFT,
  DEVICE_MODEL_NONE,
  DEVICE_MODEL_STATE_MASK,
  PAGE_SIZE,
  RAM_SIZE_MAX,
  RAM_SIZE_MIN,
  XEN_PAGES,
  XEN_PAGES_SIZE,
  createLocalDomainMemory,
  eventTargetOf,
  type DomainMemory,
} from './domain-memory.ts';
export { eventHypercalls } from './event-hypercalls.ts';
export { HypercallError, type HypercallCode } from './errors.ts';
export type {
  DomainConfig,
  DomainInfo,
  DomainProgram,
  DomainType,
  HypercallOp,
  HypercallResult,
  Hypercalls,
  MapAccess,
  ShutdownReason,
  StartInfo,
} from './hypercalls.ts';
export { grantTableOf, type GrantFrames, type GrantTableSize } from './grant-tables.ts';
export { Hypervisor, type DomainResources, type HypervisorOptions } from './hypervisor.ts';
export type { ForeignDomain, HypervisorConnection } from './connection.ts';
export { createLocalMachine, type LocalMachine, type LocalMachineOptions } from './local.ts';
export { POSTED_BIT_COUNT, PostedBits } from './posted-bits.ts';
export { IoreqSlot, type TrappedAccess } from './ioreq.ts';
