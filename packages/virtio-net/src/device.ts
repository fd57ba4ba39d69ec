import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_NET, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_V1, VIRTIO_NET_S_LINK_UP } from '@virtlab/abi/virtio-net';
import type { DeviceActivation, VirtioDevice } from '@virtlab/virtio';
import type { DescriptorChain } from '@virtlab/vring';
import {
  NET_DEVICE_FEATURES,
  type NetDeviceOptions,
  type NetDeviceProfile,
  resolveDeviceOptions,
} from './device-options.ts';
import {
  DeviceReceiver,
  RECEIVE_BROKEN,
  RECEIVE_NO_BUFFER,
  RECEIVE_OK,
  RECEIVE_SHORT_BUFFER,
} from './device-receive.ts';
import { ChainFrame } from './frame-views.ts';
import type { FrameReceiver, FrameView } from './network.ts';
import {
  NET_CONFIG_SIZE,
  NET_HEADER_SIZE,
  QUEUE_COUNT,
  TRANSMIT_QUEUE,
  asksForOffload,
  encodeConfig,
  frameSizeLimit,
} from './protocol.ts';

/** Counters since creation, as the driver sees the directions: tx is from the driver, rx to it. */
export interface NetDeviceStatistics {
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Dropped on the way from the driver. No whole header; checksum or segmentation asked for; no frame's size. */
  readonly txHeaderShort: number;
  readonly txOffload: number;
  readonly txFrameSize: number;
  /** Dropped on the way to the driver. No buffer, or not enough of them; a buffer that is too small; no frame's size. */
  readonly rxNoBuffer: number;
  readonly rxShortBuffer: number;
  readonly rxFrameSize: number;
  /** Either way: the link was down. To the driver: there was no live driver. */
  readonly linkDown: number;
  readonly rxInactive: number;
}

export interface NetDevice extends VirtioDevice {
  readonly statistics: NetDeviceStatistics;
  readonly linkUp: boolean;
  /** Pulls or plugs the cable; the driver is told. Frames in either direction are dropped while it is down. */
  setLink(up: boolean): void;
}

/** Used entries become visible at least this often within one long batch. */
const PUBLISH_PERIOD = 16;

/**
 * A virtio network device (VIRTIO §5.1) at the end of a wire: one pair of queues, no offloads. Each frame is copied once,
 * from the sender's memory to each receiver's; it is handed to the port before its chain is given back. Used entries
 * are published and the driver is called once per batch.
 *
 * What cannot be sent is dropped and counted. A driver that puts writable bytes into a packet to send, or a receive buffer
 * that does not hold a header, makes the device need a reset.
 *
 * @throws RangeError naming the option that is out of range
 */
export function createNetDevice(options: NetDeviceOptions): NetDevice {
  return new PortNetDevice(resolveDeviceOptions(options));
}

class PortNetDevice implements NetDevice, FrameReceiver {
  readonly deviceType: number = VIRTIO_ID_NET;
  readonly features: FeatureBits = NET_DEVICE_FEATURES;
  readonly queueSizesMax: readonly number[];
  readonly configSize: number = NET_CONFIG_SIZE;
  readonly statistics = {
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
    linkDown: 0,
    rxInactive: 0,
  };
  readonly #profile: NetDeviceProfile;
  readonly #frameSizeMax: number;
  readonly #frame: ChainFrame = new ChainFrame();
  #linkUp: boolean;
  #config: Uint8Array;
  #activation: DeviceActivation | undefined;
  #receiver: DeviceReceiver | undefined;

  constructor(profile: NetDeviceProfile) {
    this.#profile = profile;
    this.#frameSizeMax = frameSizeLimit(profile.mtu);
    this.#linkUp = profile.linkUp;
    this.#config = this.#encodeConfig();
    this.queueSizesMax = Array.from({ length: QUEUE_COUNT }, () => profile.queueSize);
    profile.port.attach(this);
  }

  get linkUp(): boolean {
    return this.#linkUp;
  }

  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#config = this.#encodeConfig();
    this.#activation?.configChanged();
  }

  readConfig(offset: number, out: Uint8Array): void {
    const bytes = this.#config.subarray(offset, offset + out.length);
    out.set(bytes);
    out.fill(0, bytes.length);
  }

  activate(activation: DeviceActivation): void {
    const { features, queues } = activation;
    const [receiveQueue] = queues;
    this.#activation = activation;
    if (receiveQueue === undefined) return;
    const isMerging = hasFeature(features, VIRTIO_NET_F_MRG_RXBUF);
    this.#receiver = new DeviceReceiver(activation, receiveQueue, isMerging);
  }

  /** Receive buffers stay where they are until a frame needs them. */
  processQueue(queueIndex: number): void {
    const activation = this.#activation;
    const queue = activation?.queues[queueIndex];
    if (activation === undefined || queue === undefined || queueIndex !== TRANSMIT_QUEUE) return;
    const { port } = this.#profile;
    let taken = 0;
    // A driver that refills as fast as we drain must not keep the loop: the host looks again after this many.
    while (taken < queue.size) {
      const chain = queue.pop();
      if (chain === undefined || !this.#transmit(activation, chain)) break;
      queue.push(chain, 0);
      taken += 1;
      if (taken % PUBLISH_PERIOD === 0) queue.publish();
    }
    if (taken === 0) return;
    port.flush();
    activation.complete(TRANSMIT_QUEUE);
  }

  reset(): void {
    this.#activation = undefined;
    this.#receiver = undefined;
  }

  receive(frame: FrameView): boolean {
    const { statistics } = this;
    const receiver = this.#receiver;
    if (receiver === undefined) {
      statistics.rxInactive += 1;
    } else if (!this.#linkUp) {
      statistics.linkDown += 1;
    } else if (!this.#isFrameSize(frame.size)) {
      // §5.1.4.1: nothing larger than the MTU is passed to a driver that was told of one.
      statistics.rxFrameSize += 1;
    } else {
      const outcome = receiver.put(frame);
      this.#countReceived(outcome, frame.size);
      return outcome === RECEIVE_OK;
    }
    return false;
  }

  flush(): void {
    this.#receiver?.flush();
  }

  /** False when the framing is broken: the device is failing and must not touch the queue again. */
  #transmit(activation: DeviceActivation, chain: DescriptorChain): boolean {
    const { statistics } = this;
    const { readableSize, writableSize } = chain;
    if (writableSize !== 0) {
      const message =
        `virtio-net packet at head 0x${chain.head.toString(16)} has 0x${writableSize.toString(16)} writable bytes; ` +
        'a device writes nothing to a packet';
      activation.fail({ section: '5.1.6.2', message });
      return false;
    }
    if (readableSize < NET_HEADER_SIZE) {
      statistics.txHeaderShort += 1;
      return true;
    }
    const { flags, gso_type } = VIRTIO_NET_HDR_V1.offset;
    if (asksForOffload(chain.readU8(flags), chain.readU8(gso_type))) {
      statistics.txOffload += 1;
      return true;
    }
    const size = readableSize - NET_HEADER_SIZE;
    if (!this.#isFrameSize(size)) {
      statistics.txFrameSize += 1;
    } else if (!this.#linkUp) {
      statistics.linkDown += 1;
    } else {
      statistics.txFrames += 1;
      statistics.txBytes += size;
      this.#profile.port.transmit(this.#frame.set(chain, NET_HEADER_SIZE));
    }
    return true;
  }

  #isFrameSize(size: number): boolean {
    return size >= ETHERNET_HEADER_SIZE && size <= this.#frameSizeMax;
  }

  #countReceived(outcome: number, size: number): void {
    const { statistics } = this;
    if (outcome === RECEIVE_OK) {
      statistics.rxFrames += 1;
      statistics.rxBytes += size;
    } else if (outcome === RECEIVE_NO_BUFFER) statistics.rxNoBuffer += 1;
    else if (outcome === RECEIVE_SHORT_BUFFER) statistics.rxShortBuffer += 1;
    else if (outcome === RECEIVE_BROKEN) statistics.rxInactive += 1;
  }

  #encodeConfig(): Uint8Array {
    const { mac, mtu } = this.#profile;
    return encodeConfig({ mac, mtu, status: this.#linkUp ? VIRTIO_NET_S_LINK_UP : 0 });
  }
}
