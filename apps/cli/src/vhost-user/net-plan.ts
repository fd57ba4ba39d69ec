import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { StartError } from '../start-error.ts';
import type { NetPlan } from './daemon-plan.ts';
import { checkFolder, checkSocketPath, givenTwice } from './places.ts';
import { makePrivateFolder } from './private-folder.ts';

export interface NetFlags {
  readonly switch?: string;
  readonly tap?: string;
  readonly stream?: readonly string[];
  readonly pcap?: string;
  readonly mtu: number;
  readonly mac?: Uint8Array;
  readonly numQueues: number;
  readonly queueSize: number;
  readonly allowShrink: boolean;
}

const LOCAL_ADDRESS = 0x02;

/** For so many ports. Throws `StartError` for what cannot be worked with, before anything is opened. */
export function netPlan(flags: NetFlags, portCount: number): NetPlan {
  const { stream = [], tap, pcap } = flags;
  for (const path of stream) checkSocketPath('--stream', path);
  if (pcap !== undefined) checkFolder('--pcap', pcap);
  const streams = stream.map((path) => resolve(path));
  if (flags.switch !== undefined) streams.push(switchSocket(flags.switch));
  const twice = givenTwice(streams);
  if (twice !== undefined) {
    throw new StartError(
      'usage',
      `--stream ${twice} is given twice: the switch would be connected to itself`,
    );
  }
  return {
    kind: 'net',
    mtu: flags.mtu,
    macs: flags.mac === undefined ? macsFrom(randomMac(), portCount) : givenMacs(flags.mac, portCount),
    queuePairs: flags.numQueues,
    queueSize: flags.queueSize,
    allowShrink: flags.allowShrink,
    tap,
    streams,
    pcap,
  };
}

/** Where the daemons of a named switch find each other: the first listens, the others connect. */
function switchSocket(name: string): string {
  if (!/^[\w.-]{1,32}$/.test(name)) {
    throw new StartError('usage', `--switch ${name}: not 1 to 32 letters, digits, dots and dashes`);
  }
  const runtime = process.env['XDG_RUNTIME_DIR'] ?? '';
  // The XDG Base Directory Specification has paths that are not absolute ignored.
  const folder = isAbsolute(runtime)
    ? join(runtime, 'virtlab')
    : join(tmpdir(), `virtlab-${process.geteuid!()}`);
  makePrivateFolder(`--switch ${name}`, folder);
  const path = join(folder, `switch-${name}`);
  checkSocketPath('--switch', path);
  return path;
}

function randomMac(): Uint8Array {
  const mac = new Uint8Array(randomBytes(6));
  mac[0] = (mac[0]! & 0xfc) | LOCAL_ADDRESS;
  return mac;
}

function givenMacs(first: Uint8Array, count: number): Uint8Array[] {
  if (first[5]! + count - 1 > 0xff) {
    const text = Buffer.from(first)
      .toString('hex')
      .replace(/(..)(?=.)/g, '$1:');
    throw new StartError('usage', `--mac ${text}: the last byte does not count up to ${count} cards`);
  }
  return macsFrom(first, count);
}

/** Counting up in the last byte. */
function macsFrom(first: Uint8Array, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => {
    const mac = first.slice();
    mac[5] = (mac[5]! + index) & 0xff;
    return mac;
  });
}
