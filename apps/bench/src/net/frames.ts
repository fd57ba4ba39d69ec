import { ETHERNET_ADDRESS_SIZE, ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';

/** The card of the domU, and the station in domain 0 that its frames are for. */
export const CARD_MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const STATION_MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 2);

/** IEEE 802 local experimental; the payload is a number of 32 bits, a mark, and a size of 16 bits. */
const ETHERTYPE = [0x88, 0xb5] as const;
const NUMBER_OFFSET = ETHERNET_HEADER_SIZE;
const MARK_OFFSET = NUMBER_OFFSET + 4;
const SIZE_OFFSET = MARK_OFFSET + 2;

/** What a frame is for. */
export const FRAME_DATA = 0;
/** The number is how many frames there were; answered by one with how many came. */
export const FRAME_END = 0xff;
/** To the station: send so many frames of the size. */
export const FRAME_START = 0xfe;
/** To the station that sends: so many have come. */
export const FRAME_ACK = 0xfd;
/** To the station: answer as to `FRAME_END` once so many bytes of segments have come. */
export const FRAME_TALLY = 0xfc;

/** The smallest frame, without FCS. */
export const FRAME_SIZE_MIN = 60;
/** Frames between two kicks, or in one write. */
export const BATCH_COUNT = 32;

/** A frame of a flood, whose number is set for each. */
export class FloodFrame {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(size: number, source: Uint8Array, destination: Uint8Array) {
    this.bytes = new Uint8Array(size);
    this.bytes.set(destination, 0);
    this.bytes.set(source, ETHERNET_ADDRESS_SIZE);
    this.bytes.set(ETHERTYPE, 2 * ETHERNET_ADDRESS_SIZE);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** `mark` is one of `FRAME_*`. */
  set(number: number, mark: number = FRAME_DATA, size: number = 0): Uint8Array {
    this.#view.setUint32(NUMBER_OFFSET, number);
    this.bytes[MARK_OFFSET] = mark;
    if (size !== 0) this.#view.setUint16(SIZE_OFFSET, size);
    return this.bytes;
  }
}

/** What the receiver of a flood does with each frame: looks that it is the next one, and answers the last. */
export class FloodReceiver {
  readonly #answer: (received: number) => void;
  #received = 0;

  /** `answer` gets how many frames came, all in order; -1 if one was lost, doubled or out of order. */
  constructor(answer: (received: number) => void) {
    this.#answer = answer;
  }

  receive(frame: Uint8Array): void {
    const number = readNumber(frame);
    if (readMark(frame) === FRAME_END) {
      this.#answer(number === this.#received ? number : -1);
      this.#received = 0;
    } else if (number === this.#received) {
      this.#received += 1;
    }
  }
}

export function readNumber(frame: Uint8Array): number {
  const at = NUMBER_OFFSET;
  return ((frame[at]! << 24) | (frame[at + 1]! << 16) | (frame[at + 2]! << 8) | frame[at + 3]!) >>> 0;
}

export function readMark(frame: Uint8Array): number {
  return frame[MARK_OFFSET]!;
}

export function readSize(frame: Uint8Array): number {
  return (frame[SIZE_OFFSET]! << 8) | frame[SIZE_OFFSET + 1]!;
}
