import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_NET, hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import { VIRTIO_NET_HASH_REPORT_NONE } from '@virtlab/abi/virtio-net-ctrl';
import type { DeviceActivation, VirtioDevice } from '@virtlab/virtio';
import type { DescriptorChain } from '@virtlab/vring';
import { type NetDeviceOptions, type NetDeviceProfile, resolveDeviceOptions } from './device-options.ts';
import {
  type DeviceReceiver,
  RECEIVE_NO_BUFFER,
  RECEIVE_OK,
  RECEIVE_SHORT_BUFFER,
} from './device-receive.ts';
import { type NetDeviceStatistics, type NetDeviceWork, createDeviceCounters } from './device-statistics.ts';
import { DeviceStatus } from './device-status.ts';
import { NO_OFFLOAD, acceptedByDriver, isAcceptedBy } from './frame-offload.ts';
import { isFrameSize } from './frame-size.ts';
import { LiveDevice, type LiveDeviceEvents } from './live-device.ts';
import { refuseNetFeatures } from './net-features.ts';
import type { FrameReceiver, FrameView } from './network.ts';
import {
  PACKET_OFFLOAD,
  PACKET_OK,
  PACKET_SHORT,
  PACKET_SIZE,
  PACKET_WRITABLE,
  PacketReader,
} from './packet-reader.ts';
import { NET_CONFIG_SIZE, QUEUE_COUNT, frameSizeLimit } from './protocol.ts';
import { type FinishedFrames, SoftwareOffload } from './software-offload.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const NOTHING = NO_OFFLOAD;
const HASH_NONE = VIRTIO_NET_HASH_REPORT_NONE;
const OK = RECEIVE_OK;

export interface NetDevice extends VirtioDevice {
  readonly statistics: NetDeviceStatistics;
  readonly work: NetDeviceWork;
  readonly linkUp: boolean;
  /** Six bytes: as configured, or as the driver set it. */
  readonly mac: Uint8Array;
  /** Pulls or plugs the cable; the driver is told. Frames in either direction are dropped while it is down. */
  setLink(up: boolean): void;
  /** §5.1.4: asks the driver to announce itself, as after a migration. False without GUEST_ANNOUNCE or a live driver. */
  announce(): boolean;
}

/** Entries of the control queue at most. */
const CONTROL_QUEUE_SIZE = 64;

/**
 * A virtio network device (VIRTIO §5.1) at the end of a wire. Each frame is copied once, from the sender's memory to each
 * receiver's; it is handed to the port before its chain is given back. Used entries are published and the driver is called
 * once per batch, or later if it asked for that.
 *
 * A frame that its sender left unfinished goes to the wire as it is, once its header was found to make sense; towards a
 * driver that did not negotiate what is left to do, the device does it in software.
 *
 * What cannot be sent is dropped and counted. A driver that puts writable bytes into a packet to send, a receive buffer
 * that does not hold a header, or a control request without room for an answer, makes the device need a reset.
 *
 * @throws RangeError naming the option that is out of range
 */
export function createNetDevice(options: NetDeviceOptions): NetDevice {
  return new PortNetDevice(resolveDeviceOptions(options));
}

class PortNetDevice implements NetDevice, FrameReceiver, FinishedFrames, LiveDeviceEvents {
  readonly deviceType: number = VIRTIO_ID_NET;
  readonly features: FeatureBits;
  readonly queueSizesMax: readonly number[];
  readonly discardedWhenDisabled: readonly number[];
  readonly configSize: number = NET_CONFIG_SIZE;
  readonly statistics = createDeviceCounters();
  readonly #profile: NetDeviceProfile;
  readonly #frameSizeMax: number;
  readonly #status: DeviceStatus;
  readonly #packets: PacketReader;
  #software: SoftwareOffload | undefined;
  #live: LiveDevice | undefined;
  /** Where finished frames go while there is nothing to choose, to filter or to hash: the first queue of a live device. */
  #straight: DeviceReceiver | undefined;
  #isLinkUp: boolean;
  /** A frame found too few buffers, and the driver did not say since that there are more. */
  #isStarved = false;

  constructor(profile: NetDeviceProfile) {
    this.#profile = profile;
    this.features = profile.features;
    this.#frameSizeMax = frameSizeLimit(profile.mtu);
    this.#packets = new PacketReader(this.#frameSizeMax);
    this.#status = new DeviceStatus(profile);
    this.#isLinkUp = profile.linkUp;
    const { queueSize, queuePairs } = profile;
    const sizes = Array.from({ length: QUEUE_COUNT * queuePairs }, () => queueSize);
    if (hasFeature(profile.features, net.VIRTIO_NET_F_CTRL_VQ)) {
      sizes.push(Math.min(queueSize, CONTROL_QUEUE_SIZE));
    }
    this.queueSizesMax = sizes;
    this.discardedWhenDisabled = Array.from({ length: queuePairs }, (_, pair) =>
      net.virtioNetTransmitQueue(pair),
    );
    profile.port.attach(this);
  }

  get linkUp(): boolean {
    return this.#isLinkUp;
  }

  get mac(): Uint8Array {
    return this.#status.mac;
  }

  get work(): NetDeviceWork {
    const control = this.#live?.control?.statistics ?? { done: 0, refused: 0 };
    const software = this.#software?.statistics ?? { checksums: 0, segmented: 0, segments: 0, refused: 0 };
    return { control, software };
  }

  setLink(up: boolean): void {
    this.#isLinkUp = up;
    this.#chooseWay();
    if (this.#status.set(net.VIRTIO_NET_S_LINK_UP, up)) this.#live?.activation.configChanged();
  }

  announce(): boolean {
    if (this.#live === undefined || !hasFeature(this.#live.features, net.VIRTIO_NET_F_GUEST_ANNOUNCE))
      return false;
    this.#status.set(net.VIRTIO_NET_S_ANNOUNCE, true);
    this.#live.activation.configChanged();
    return true;
  }

  readConfig(offset: number, out: Uint8Array): void {
    this.#status.read(offset, out);
  }

  refuseFeatures(features: FeatureBits): string | undefined {
    return refuseNetFeatures(features, this.#profile.controlElsewhere);
  }

  activate(activation: DeviceActivation): void {
    this.#live = new LiveDevice(activation, this.#profile, this);
    this.#chooseWay();
    this.acceptChanged(acceptedByDriver(activation.features));
  }

  /** Receive buffers stay where they are until a frame needs them; a wire that holds frames back is told of them. */
  processQueue(queueIndex: number): void {
    if (this.#live?.process(queueIndex) !== true) return;
    if (this.#live.usesEnabledPairs) this.#chooseWay();
    this.#isStarved = false;
    this.#profile.port.resume?.();
  }

  resetQueue(queueIndex: number): void {
    this.#live?.resetQueue(queueIndex);
    this.#chooseWay();
  }

  reset(): void {
    this.#live?.dispose();
    this.#live = undefined;
    this.#chooseWay();
    this.#status.reset();
  }

  isReady(): boolean {
    const live = this.#live;
    if (live === undefined || !this.#isLinkUp) return true;
    // A wire that asks again after a while gets another try.
    const isStarved = this.#isStarved;
    this.#isStarved = false;
    return !isStarved && live.receivers[0]!.hasBuffers;
  }

  receive(frame: FrameView): boolean {
    const straight = this.#straight;
    if (straight === undefined || frame.offload !== NOTHING) return this.#receiveByRules(frame);
    if (isFrameSize(frame, this.#frameSizeMax)) return this.#put(straight, frame, 0, HASH_NONE);
    this.statistics.rxFrameSize += 1;
    return false;
  }

  #receiveByRules(frame: FrameView): boolean {
    const { statistics } = this;
    const live = this.#live;
    if (live === undefined) {
      statistics.rxInactive += 1;
    } else if (!this.#isLinkUp) {
      statistics.linkDown += 1;
    } else if (!isFrameSize(frame, this.#frameSizeMax)) {
      // §5.1.4.1: nothing larger than the MTU is passed to a driver that was told of one.
      statistics.rxFrameSize += 1;
    } else if (!live.filter.passesFrame(frame)) {
      statistics.rxFiltered += 1;
    } else {
      live.steering.look(frame);
      if (isAcceptedBy(live.accept, frame.offload)) return this.take(frame);
      this.#software ??= new SoftwareOffload();
      return this.#software.finish(frame, live.accept, this);
    }
    return false;
  }

  /** A frame as the driver can have it, for the pair that was chosen. */
  take(frame: FrameView): boolean {
    const live = this.#live;
    if (live === undefined) return false;
    const { pair, hash, report } = live.steering;
    return this.#put(live.receivers[pair]!, frame, hash, report);
  }

  #put(receiver: DeviceReceiver, frame: FrameView, hash: number, report: number): boolean {
    const { statistics } = this;
    const outcome = receiver.put(frame, hash, report);
    if (outcome === OK) {
      statistics.rxFrames += 1;
      statistics.rxBytes += frame.size;
      return true;
    }
    if (outcome === RECEIVE_NO_BUFFER) {
      statistics.rxNoBuffer += 1;
      this.#isStarved = true;
    } else if (outcome === RECEIVE_SHORT_BUFFER) {
      statistics.rxShortBuffer += 1;
    } else {
      statistics.rxInactive += 1;
    }
    return false;
  }

  flush(): void {
    const receivers = this.#live?.receivers;
    if (receivers === undefined) return;
    for (let pair = 0; pair < receivers.length; pair += 1) receivers[pair]!.flush();
  }

  flushPort(): void {
    this.#profile.port.flush();
  }

  transmit(chain: DescriptorChain, pair: number): boolean {
    const live = this.#live;
    if (live === undefined) return false;
    const packets = this.#packets;
    const outcome = packets.read(chain, live.headerSize, live.acceptFromDriver);
    if (outcome !== PACKET_OK || !this.#isLinkUp) return this.#drop(live, chain, outcome);
    const { frame } = packets;
    const { statistics } = this;
    statistics.txFrames += 1;
    statistics.txBytes += frame.size;
    if (live.steering.pairCount > 1) live.steering.learn(frame, pair);
    this.#profile.port.transmit(frame);
    return true;
  }

  /** Counts a packet that goes nowhere; false when the device is failing. */
  #drop(live: LiveDevice, chain: DescriptorChain, outcome: number): boolean {
    const { statistics } = this;
    if (outcome === PACKET_WRITABLE) {
      const message =
        `virtio-net packet at head 0x${chain.head.toString(16)} has 0x${chain.writableSize.toString(16)} writable bytes; ` +
        'a device writes nothing to a packet';
      live.activation.fail({ section: '5.1.9.2', message });
      return false;
    }
    if (outcome === PACKET_SHORT) statistics.txHeaderShort += 1;
    else if (outcome === PACKET_OFFLOAD) statistics.txOffload += 1;
    else if (outcome === PACKET_SIZE) statistics.txFrameSize += 1;
    else statistics.linkDown += 1;
    return true;
  }

  macChanged(mac: Uint8Array): void {
    this.#status.setMac(mac);
    this.#live?.activation.configChanged();
  }

  clearStatus(bit: number): boolean {
    if (!this.#status.set(bit, false)) return false;
    this.#live?.activation.configChanged();
    return true;
  }

  acceptChanged(accept: number): void {
    this.#profile.port.expect?.(accept);
  }

  rulesChanged(): void {
    this.#chooseWay();
  }

  /** Decided when something changes, so that no frame has to ask. */
  #chooseWay(): void {
    const live = this.#live;
    this.#straight = this.#isLinkUp && live?.isSimple === true ? live.receivers[0] : undefined;
  }
}
