import type { MemoryRegion } from '@virtlab/guest-memory';
import type { FrameOffload } from './frame-offload.ts';

/**
 * What stations, wires and switches agree on. A frame never moves through these interfaces: whoever receives it copies it
 * from where it lies to where it is wanted, once.
 */

/** A frame where it lies: an Ethernet header and payload, no preamble, no FCS. Valid during the call that hands it over. */
export interface FrameView {
  /** Bytes. */
  readonly size: number;
  /**
   * What its sender left undone: a checksum, segmentation. Checked against the frame by whoever took it from a peer;
   * a receiver that cannot have it so finishes it (`SoftwareOffload`).
   */
  readonly offload: FrameOffload;
  /**
   * Copies bytes `[at, at + size)` of the frame to `target[targetAt …]`; both ranges are inside. What lies in a peer's
   * memory may change between two calls, so whoever decides by a byte reads it once.
   */
  copy(at: number, size: number, target: Uint8Array, targetAt: number): void;
  /** Where it lies if that is in one piece, as mostly: `size` bytes of this memory from byte `start`. */
  readonly memory?: MemoryRegion | undefined;
  readonly start?: number;
}

/** The end of a wire that frames arrive at. */
export interface FrameReceiver {
  /** Takes the frame, or drops it and returns false. Never waits, and never calls back into the port. */
  receive(frame: FrameView): boolean;
  /** A batch ends: show the station what was received since the last time. */
  flush(): void;
  /** Whether it is of use to hand over a frame now. Without it: always. See `NetPort.resume`. */
  isReady?(): boolean;
}

/** The end of a wire as its station holds it. */
export interface NetPort {
  /** At most one receiver; undefined takes it away. Throws `TypeError` when there is one already. */
  attach(receiver: FrameReceiver | undefined): void;
  /** Hands on a frame; it is copied by whoever wants it before this returns. */
  transmit(frame: FrameView): void;
  /** Ends a batch of `transmit`: each receiver that got frames is flushed once. */
  flush(): void;
  /** A hint: frames that are finished but for these things (`ACCEPT_*`) cost the receiver least. */
  expect?(accept: number): void;
  /** The receiver, not ready before, has room again: a wire that can hold frames back goes on. */
  resume?(): void;
  /** Whether `transmit` has room. Without it: always; frames may be lost all the same. */
  isReady?(): boolean;
  /** At most one handler: there is room again after `isReady` was false. */
  onReady?(handler: (() => void) | undefined): void;
}

/** Sees every frame that enters a switch, once, before it is forwarded. Drops when it cannot keep up. */
export interface FrameSink {
  capture(frame: FrameView): void;
}
