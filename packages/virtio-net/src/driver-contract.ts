import type { FeatureBits } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { RingSnapshot } from '@virtlab/vring';
import type { NetControl } from './driver-control.ts';
import type { FrameHandler } from './driver-receive.ts';
import type { FrameOffload } from './frame-offload.ts';
import type { FrameView } from './network.ts';
import type { SoftwareOffloadStatistics } from './software-offload.ts';

/** Counters since creation. */
export interface NetDriverStatistics {
  /** Frames given to the device, and to the `onFrame` handler; bytes without the packet header. */
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Sent while the link was down or the queue broken. */
  readonly txDropped: number;
  /** Times that a transmit queue made no progress, see `onStuck`. */
  readonly txTimeouts: number;
  /** The device said of them what cannot be: more bytes than the buffer has, less than a frame, offloads not agreed on. */
  readonly rxDropped: number;
  /** Doorbells sent, and publications that needed none; calls received, and completions found by polling. */
  readonly kicks: number;
  readonly kicksSuppressed: number;
  readonly calls: number;
  readonly polls: number;
}

/** A transmit queue that has frames in flight and finished none for `txTimeoutMs`. */
export interface StuckQueue {
  readonly queue: number;
  readonly inFlightCount: number;
  /** The ring as the driver sees it. */
  readonly snapshot: RingSnapshot;
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
  /** Pairs of queues in use. */
  readonly queuePairs: number;
  /** `ACCEPT_*`: what the device takes unfinished. */
  readonly accepts: number;
  /** What `send` did in the device's place. */
  readonly software: SoftwareOffloadStatistics;
  /** Requests to the device; undefined without a control queue. */
  readonly control: NetControl | undefined;

  /** §5.1.9.5.4: the device wants the station announced (gratuitous ARP); acknowledged after the handler. */
  onAnnounce(handler: (() => void) | undefined): void;
  /** The watchdog of the transmit queues; the report comes again each `txTimeoutMs`. `resetQueue` may help. */
  onStuck(handler: ((stuck: StuckQueue) => void) | undefined): void;
  /**
   * Resets one transmit or receive queue alone (§2.6.1); frames in flight on it are lost. Rejects as
   * `DriverSession.resetQueue`, and with `RangeError` for a queue that is none of these.
   */
  resetQueue(queue: number): Promise<void>;

  /** At most one handler. */
  onLinkChange(handler: ((up: boolean) => void) | undefined): void;
  /**
   * At most one handler; frames that arrive before there is one wait in the ring, as many as fit. With `GUEST_*` offloads
   * negotiated the second argument says what is left to do. `batchEnd` follows the last frame of a batch.
   */
  onFrame(handler: FrameHandler | undefined, batchEnd?: () => void): void;
  /**
   * Copies the frame and stages it; the device sees it after `kick`. False when the ring is full: what was staged
   * is then kicked, and `onWritable` follows. While the link is down, frames are taken and dropped.
   *
   * With `offload` the frame is left unfinished, and larger ones than `frameSizeMax` are for segmentation; what the device did
   * not negotiate is done here. Its `hdrLen` is worked out from the frame.
   *
   * Throws `RangeError` for a size that is no frame's or an `offload` that does not fit the frame, and `NetError` `ENODEV`
   * once there is a `failure`.
   */
  send(frame: Uint8Array, offload?: FrameOffload): boolean;
  /** The same for a frame where it lies, whose `offload` was checked (`OffloadCheck`); a size that cannot be is dropped. */
  sendView(frame: FrameView): boolean;
  /** Whether a finished frame can be staged now; if not, `onWritable` follows. */
  isReady(): boolean;
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
