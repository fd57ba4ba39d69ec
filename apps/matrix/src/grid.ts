import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { DeviceName } from './exercises.ts';

/** The axes of the grid. A cell is one driver and one device, at work over all that the axes say. */
export const TRANSPORTS = ['memory', 'pci', 'xenbus', 'xenbus-register-page', 'vhost-user'] as const;
export type TransportName = (typeof TRANSPORTS)[number];
/** Those of which driver and device may be in two processes. */
export type ProcessTransport = Exclude<TransportName, 'memory'>;
export const PROCESS_TRANSPORTS: readonly ProcessTransport[] = TRANSPORTS.filter(
  (transport) => transport !== 'memory',
);
/** Those that Xen's domains have. */
export type DomainTransport = Exclude<ProcessTransport, 'vhost-user'>;

export const DOORBELLS = ['calm', 'coalescing', 'late', 'spurious'] as const;
export type DoorbellName = (typeof DOORBELLS)[number];

/** One set of ring features, as a driver accepts it. */
export interface Ring {
  readonly name: string;
  readonly features: FeatureBits;
}

const OPTIONS: readonly (readonly [string, number])[] = [
  ['indirect', VIRTIO_RING_F_INDIRECT_DESC],
  ['event index', VIRTIO_RING_F_EVENT_IDX],
  ['in order', VIRTIO_F_IN_ORDER],
];

/** {split, packed} × every set of the options. */
export const RINGS: readonly Ring[] = (['split', 'packed'] as const).flatMap((format) =>
  Array.from({ length: 1 << OPTIONS.length }, (_, set) => {
    const chosen = OPTIONS.filter((_option, bit) => (set & (1 << bit)) !== 0);
    const base = format === 'packed' ? featureBit(VIRTIO_F_RING_PACKED) : 0n;
    return {
      name: [format, ...chosen.map(([name]) => name)].join(', '),
      features: chosen.reduce((bits, [, bit]) => bits | featureBit(bit), base),
    };
  }),
);

export interface Cell {
  readonly transport: TransportName;
  readonly ring: Ring;
  readonly device: DeviceName;
  readonly doorbells: DoorbellName;
}

/** A cell's driver did not get the ring it wanted: the transport does not offer it. */
export const NOT_OFFERED = 'not offered';
/** What a cell comes to; anything else it does is a failure. */
export type CellResult = 'ok' | typeof NOT_OFFERED;

export function ringNamed(name: string): Ring {
  return RINGS.find((ring) => ring.name === name)!;
}

/** Processes in which cells of one transport run, one after the other. */
export interface GridMachine {
  /** Runs a cell. Rejects with what went wrong. */
  cell(device: DeviceName, ring: Ring): Promise<CellResult>;
  /** Ends all of them in order; rejects with what was left behind. */
  close(): Promise<void>;
  /** Ends them at once. */
  kill(): Promise<void>;
}
