import { ETHERNET_ADDRESS_SIZE, ETHERNET_GROUP_BIT, ETHERNET_TYPE_OFFSET } from '@virtlab/abi/ethernet';
import { ETHERTYPE_VLAN, VLAN_ID_MASK } from '@virtlab/abi/internet';
import type { FrameView } from './network.ts';
import { be16 } from './packet-headers.ts';

/** Addresses in each table; a driver that wants more gets all of that kind, as with QEMU. */
export const MAC_TABLE_SIZE = 64;

/** Bytes of a frame that the filter looks at: both addresses, and a tag. */
export const FILTER_INPUT_SIZE = 18;

/** The six receive modes of §5.1.9.5.1. */
export interface ReceiveModes {
  promiscuous: boolean;
  allMulticast: boolean;
  allUnicast: boolean;
  noMulticast: boolean;
  noUnicast: boolean;
  noBroadcast: boolean;
}

/** Which frames a driver gets (§5.1.9.5.1 to §5.1.9.5.3). Promiscuous after a reset, until the driver says otherwise. */
export class ReceiveFilter {
  readonly modes: ReceiveModes = {
    promiscuous: true,
    allMulticast: false,
    allUnicast: false,
    noMulticast: false,
    noUnicast: false,
    noBroadcast: false,
  };
  readonly #mac: Uint8Array;
  readonly #input = new Uint8Array(FILTER_INPUT_SIZE);
  #unicast: ReadonlySet<number> = new Set();
  #multicast: ReadonlySet<number> = new Set();
  #isUnicastOverflown = false;
  #isMulticastOverflown = false;
  /** One bit an id; undefined lets all through. */
  #vlans: Uint32Array | undefined;

  /** `hasVlans`: VIRTIO_NET_F_CTRL_VLAN was negotiated, so that every id is filtered until it is added. */
  constructor(mac: Uint8Array, hasVlans: boolean) {
    this.#mac = mac.slice();
    if (hasVlans) this.#vlans = new Uint32Array((VLAN_ID_MASK + 1) / 32);
  }

  get mac(): Uint8Array {
    return this.#mac;
  }

  /** Whether everything passes, so that nobody needs to look. */
  get isOpen(): boolean {
    return this.modes.promiscuous && this.#vlans === undefined;
  }

  setMac(mac: Uint8Array): void {
    this.#mac.set(mac);
  }

  setTables(unicast: readonly number[], multicast: readonly number[]): void {
    this.#isUnicastOverflown = unicast.length > MAC_TABLE_SIZE;
    this.#isMulticastOverflown = multicast.length > MAC_TABLE_SIZE;
    this.#unicast = new Set(this.#isUnicastOverflown ? [] : unicast);
    this.#multicast = new Set(this.#isMulticastOverflown ? [] : multicast);
  }

  setVlan(id: number, isLetThrough: boolean): void {
    if (this.#vlans === undefined) return;
    const bit = 1 << (id & 31);
    const word = this.#vlans[id >>> 5]!;
    this.#vlans[id >>> 5] = isLetThrough ? word | bit : word & ~bit;
  }

  /** Looks at the frame only where that matters. */
  passesFrame(frame: FrameView): boolean {
    if (this.isOpen) return true;
    const input = this.#input;
    const size = Math.min(frame.size, input.length);
    frame.copy(0, size, input, 0);
    input.fill(0, size);
    return this.passes(input);
  }

  /** `bytes` are the first `FILTER_INPUT_SIZE` of the frame, zeros behind a shorter one. */
  passes(bytes: Uint8Array): boolean {
    if (this.#vlans !== undefined && be16(bytes, ETHERNET_TYPE_OFFSET) === ETHERTYPE_VLAN) {
      const id = be16(bytes, ETHERNET_TYPE_OFFSET + 2) & VLAN_ID_MASK;
      if (((this.#vlans[id >>> 5]! >>> (id & 31)) & 1) === 0) return false;
    }
    const { modes } = this;
    if (modes.promiscuous) return true;
    if ((bytes[0]! & ETHERNET_GROUP_BIT) === 0) return this.#passesUnicast(bytes);
    const address = addressNumber(bytes, 0);
    if (address === BROADCAST) return !modes.noBroadcast;
    if (modes.noMulticast) return false;
    return modes.allMulticast || this.#isMulticastOverflown || this.#multicast.has(address);
  }

  #passesUnicast(bytes: Uint8Array): boolean {
    const { modes } = this;
    if (modes.noUnicast) return false;
    if (modes.allUnicast || this.#isUnicastOverflown) return true;
    for (let at = 0; at < ETHERNET_ADDRESS_SIZE; at += 1) {
      if (bytes[at] !== this.#mac[at]) return this.#unicast.has(addressNumber(bytes, 0));
    }
    return true;
  }
}

/** A MAC address as a number of 48 bits. */
export function addressNumber(bytes: Uint8Array, at: number): number {
  const low = be16(bytes, at + 2) * 0x1_0000 + be16(bytes, at + 4);
  return be16(bytes, at) * 0x1_0000_0000 + low;
}

const BROADCAST = 0xffff_ffff_ffff;
