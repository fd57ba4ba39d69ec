import type { DomId } from '@virtlab/abi/brands';
import type { DeviceBus } from '@virtlab/domain';

/** What the launcher asks the programs of these tests, and what they answer. Plain data. */

export type DeviceSpec =
  | { readonly kind: 'rng' }
  | {
      readonly kind: 'blk';
      /** In memory without one. */
      readonly image?: { readonly path: string; readonly capacitySectors?: number };
      /** Reads below this sector never end. */
      readonly stalledSectors?: number;
    }
  /** `mac` is the last byte of its address; the port of the switch has the guest's name. */
  | { readonly kind: 'net'; readonly mac: number };

export type Role = 'bystander' | 'writer' | 'survivor' | 'mourner' | 'cheat' | 'fuzzer';

export interface GuestSpec {
  readonly name: string;
  readonly bus: DeviceBus;
  readonly role: Role;
  readonly devices: readonly DeviceSpec[];
  /** The driver domain that serves the devices. Default: domain 0. */
  readonly backendDomain?: DomId;
  /** For the program of the role. */
  readonly args?: unknown;
}

export interface GuestArguments {
  readonly bus: DeviceBus;
  readonly role: Role;
  readonly args: unknown;
}

/** What domain 0 is started with. */
export interface Dom0Arguments {
  /** Base of the programs' URLs. */
  readonly programs: string;
}

export type Dom0Request =
  | { readonly op: 'create'; readonly guest: GuestSpec }
  /** A domain that serves devices of others. */
  | { readonly op: 'create driver domain' }
  /** Gives the devices of a guest, which is alive, to another driver domain. */
  | { readonly op: 'move'; readonly domain: DomId; readonly backendDomain: DomId }
  | { readonly op: 'destroy'; readonly domain: DomId }
  /** Answers whether it went by itself. */
  | { readonly op: 'shutdown'; readonly domain: DomId; readonly timeoutMs: number }
  | { readonly op: 'inventory' }
  /** Ends the services; answers what is left. */
  | { readonly op: 'end' };

/** What domain 0 holds for its guests. Equal before a guest was made and after it was destroyed. */
export interface Inventory {
  readonly ports: number;
  /** Grants mapped, of guests that are not alive. */
  readonly orphanedMappings: number;
  readonly watches: number;
  /** Domains that xenstored serves. */
  readonly served: readonly number[];
  readonly switchPorts: readonly string[];
  readonly descriptors: number;
  readonly handlers: readonly string[];
  /** Every node of xenstore. */
  readonly paths: readonly string[];
}

/** Progress of a writer: the write of these generations was acknowledged by a flush. */
export interface Flushed {
  readonly kind: 'flushed';
  readonly from: number;
  readonly to: number;
}

export interface WriterArguments {
  readonly seed: number;
  /** By block: the generation that must be there, or a later one. */
  readonly acknowledged: readonly number[];
  readonly mac: number;
}

export interface BystanderStatus {
  /** Rounds of verified work on each device. */
  readonly blk: number;
  readonly net: number;
  readonly rng: number;
}

/** Of a survivor, since it started. */
export interface SurvivorStatus {
  readonly flushes: number;
  readonly losses: number;
  readonly reconnects: number;
}

/** How an operation of a mourner ended. */
export interface Ending {
  readonly operation: string;
  /** How often it succeeded before. */
  readonly successes: number;
  readonly name: string;
  readonly code: string;
  readonly message: string;
}

export interface MournerArguments {
  readonly timeoutMs: number;
  /** Those that xenstore or the entropy device would leave waiting for ever are left out. */
  readonly onlyBounded: boolean;
}

export type DomURequest =
  | { readonly op: 'status' }
  | { readonly op: 'endings' }
  | { readonly op: 'bury' }
  | { readonly op: 'cheat'; readonly how: 'revoked' | 'foreign' | 'outside' }
  | { readonly op: 'write' };

export interface FuzzerArguments {
  readonly seed: number;
  readonly area: FuzzArea;
  readonly rounds: number;
}

export const FUZZ_AREAS = {
  pci: ['rings', 'posted bits', 'trapped accesses', 'xenstore ring', 'everything'],
  xenbus: ['rings', 'grant table', 'port table', 'shared info', 'xenstore ring', 'everything'],
  'xenbus-register-page': ['rings', 'everything'],
} as const;
export type FuzzArea = (typeof FUZZ_AREAS)[DeviceBus][number];
