// What a domain process can do to the hypercall socket when it goes around the library.
import { writeSync } from 'node:fs';
import { createPrng, type Prng } from '@virtlab/aio';
import { type LinuxError, UnixStream, dupFd } from '@virtlab/linux';
import { Packr } from 'msgpackr';
import { FRAME_CALL, HYPERVISOR_FD } from '../frames.ts';
import type { AttackName } from './orders.ts';

const packr = new Packr({ useRecords: false });
const ATTEMPTS = 20;

/** Returns if the attack was one that a hypervisor could ignore. */
export function attack(name: AttackName, seed: number): null {
  const prng = createPrng(seed);
  ATTACK[name](prng);
  return null;
}

const ATTACK: { readonly [Name in AttackName]: (prng: Prng) => void } = {
  noise: (prng) => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) push(randomBytes(prng, 1 + prng.below(4096)));
  },
  'garbage in a frame': (prng) => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) push(framed(randomBytes(prng, prng.below(300))));
  },
  'length of 4 GiB': () => push(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0)),
  'half a message': () => {
    push(framed(packr.pack([FRAME_CALL, 1, 'domain_info'])).subarray(0, 9));
    process.exit(0);
  },
  descriptors: () => {
    const stream = UnixStream.fromFd(dupFd(HYPERVISOR_FD));
    const fds = Array.from({ length: 250 }, () => HYPERVISOR_FD);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      stream.send(framed(packr.pack([FRAME_CALL, attempt, 'domain_info'])), fds);
    }
  },
  'not a call': (prng) => {
    const messages = [null, 7, {}, [], [99, 1], [FRAME_CALL, 'one', 'domain_info'], [FRAME_CALL, 1, 2], 'x'];
    push(framed(packr.pack(messages[prng.below(messages.length)])));
  },
  'deep nesting': () => push(framed(new Uint8Array(1 << 20).fill(0x91))),
  'never reads': () => {
    const call = framed(packr.pack([FRAME_CALL, 1, 'no_such_hypercall_'.repeat(100)]));
    for (;;) push(call);
  },
};

function framed(body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(4 + body.length);
  new DataView(frame.buffer).setUint32(0, body.length, true);
  frame.set(body, 4);
  return frame;
}

function randomBytes(prng: Prng, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, () => prng.next() & 0xff);
}

/** All of it, however slowly the hypervisor reads; nothing once it has hung up. */
function push(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(HYPERVISOR_FD, bytes, at);
    } catch (error) {
      const { code } = error as LinuxError;
      if (code === 'EPIPE' || code === 'ECONNRESET') return;
      if (code !== 'EAGAIN') throw error;
    }
  }
}
