import type { ControlStatistics } from './device-control.ts';
import type { SoftwareOffloadStatistics } from './software-offload.ts';

/** Counters since creation, as the driver sees the directions: tx is from the driver, rx to it. */
export interface NetDeviceStatistics {
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Dropped on the way from the driver. No whole header; an offload that was not agreed on or cannot be; no frame's size. */
  readonly txHeaderShort: number;
  readonly txOffload: number;
  readonly txFrameSize: number;
  /** Dropped on the way to the driver. No buffer, or not enough of them; a buffer that is too small; no frame's size. */
  readonly rxNoBuffer: number;
  readonly rxShortBuffer: number;
  readonly rxFrameSize: number;
  /** Not for this driver, as it set its filters. */
  readonly rxFiltered: number;
  /** Either way: the link was down. To the driver: there was no live driver. */
  readonly linkDown: number;
  readonly rxInactive: number;
}

export type DeviceCounters = { -readonly [Name in keyof NetDeviceStatistics]: NetDeviceStatistics[Name] };

export function createDeviceCounters(): DeviceCounters {
  return {
    txFrames: 0,
    txBytes: 0,
    rxFrames: 0,
    rxBytes: 0,
    txHeaderShort: 0,
    txOffload: 0,
    txFrameSize: 0,
    rxNoBuffer: 0,
    rxShortBuffer: 0,
    rxFrameSize: 0,
    rxFiltered: 0,
    linkDown: 0,
    rxInactive: 0,
  };
}

/** What a live device does beside frames; zeros while there is no driver. */
export interface NetDeviceWork {
  readonly control: ControlStatistics;
  /** Done in software for a driver that did not negotiate it, since creation. */
  readonly software: SoftwareOffloadStatistics;
}
