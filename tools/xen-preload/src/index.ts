/** The real daemons of Xen, started without Xen. */
export { realXenstoredAvailability } from './availability.ts';
export type {
  RealDomain,
  RealXenstored,
  RealXenstoredAvailability,
  RealXenstoredKind,
  RealXenstoredOptions,
} from './contract.ts';
export { RealXenstoredError, type RealXenstoredErrorCode } from './error.ts';
export { startRealXenstored } from './real-xenstored.ts';
