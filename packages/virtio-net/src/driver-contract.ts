import type { FeatureBits } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';

/** Counters since creation. */
export interface NetDriverStatistics {
  /** Frames given to the device, and to the `onFrame` handler; bytes without the packet header. */
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Sent while the link was down or the queue broken. */
  readonly txDropped: number;
  /** The device said of them what cannot be: more bytes than the buffer has, less than a frame, offloads not agreed on. */
  readonly rxDropped: number;
  /** Doorbells sent, and publications that needed none; calls received, and completions found by polling. */
  readonly kicks: number;
  readonly kicksSuppressed: number;
  readonly calls: number;
  readonly polls: number;
}

/**
 * A network card. Frames are Ethernet frames without FCS, from 14 bytes to `frameSizeMax`, received and sent in order.
 *
 * Nothing that a handler is given or a call takes is kept: a received frame is a private copy, valid during the call, and a
 * sent one is copied. Handlers run in the loop and must not throw; they may send.
 */
export interface NetDriver extends AsyncDisposable {
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** Bytes of payload after the Ethernet header. */
  readonly mtu: number;
  /** Largest frame to send: `mtu` and the Ethernet header. Received ones may have a VLAN tag on top. */
  readonly frameSizeMax: number;
  readonly linkUp: boolean;
  readonly features: FeatureBits;
  /** Why nothing moves any more: device gone, broken, or driver closed. */
  readonly failure: string | undefined;
  readonly statistics: NetDriverStatistics;

  /** At most one handler. */
  onLinkChange(handler: ((up: boolean) => void) | undefined): void;
  /** At most one handler; frames that arrive before there is one wait in the ring, as many as fit. */
  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void;
  /**
   * Copies the frame and stages it; the device sees it after `kick`. False when the ring is full: what was staged
   * is then kicked, and `onWritable` follows. While the link is down, frames are taken and dropped.
   *
   * Throws `RangeError` for a size that is no frame's, and `NetError` `ENODEV` once there is a `failure`.
   */
  send(frame: Uint8Array): boolean;
  /** At most one handler: there is room again after a `send` or `reserve` without success, or there is a `failure`. */
  onWritable(handler: (() => void) | undefined): void;
  /** Shows the device all that was staged, with one publication and at most one doorbell. */
  kick(): void;

  /** The memory that `reserve` speaks of. */
  readonly memory: MemoryRegion;
  /**
   * To build a frame in place: the offset in `memory` of `frameSizeMax` bytes, or -1 when the ring is full (see `send`).
   * It stays the same until `commit`. The device could look at it from now on.
   */
  reserve(): number;
  /** Stages the frame of `size` bytes at the reserved offset. Throws `TypeError` when nothing is reserved. */
  commit(size: number): void;

  /**
   * Resets the device and takes all memory back; what was in flight may or may not have been sent. Idempotent. Rejects with
   * `TransportError` when the device did not confirm the reset; the memory then stays lent for good.
   */
  close(): Promise<void>;
}
