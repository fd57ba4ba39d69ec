import type { LinuxGuest } from '@virtlab/linux-guest';
import { expect } from 'vitest';
import { TCP_RECEIVE, TCP_SEND, UDP_RECEIVE, UDP_SEND, perl } from './transfer.ts';

const TCP_PORT = 5000;
const UDP_PORT = 6000;
const LIMIT = { timeoutMs: 120_000 };

/** Something on a network that runs commands of a shell. */
export interface Station {
  readonly address: string;
  output(script: string, limit?: { readonly timeoutMs?: number }): Promise<string>;
}

/** A guest's card is up, with an address. Names of cards are the guest's: in the order of `devices`. */
export async function configure(guest: LinuxGuest, card: string, address: string): Promise<Station> {
  await guest.output(`ip addr add ${address}/24 dev ${card} && ip link set ${card} up`);
  return { address, output: (script, limit) => guest.output(script, limit) };
}

/** Answers to echo requests of any size come, once neighbours know each other. */
export async function expectPings(one: Station, other: Station, sizes: readonly number[]): Promise<void> {
  await one.output(`until ping -c 1 -W 1 ${other.address}; do :; done`, LIMIT);
  for (const size of sizes) {
    // One at a time: of several, ping waits for the last answer only as long as others took.
    const said = await one.output(
      `for n in 1 2 3; do ping -c 1 -W 10 -s ${size} ${other.address} || exit; done`,
      LIMIT,
    );
    expect(said.match(/1 (packets )?received, 0% packet loss/g), `${size} bytes`).toHaveLength(3);
  }
}

/** A file of so many random bytes comes as it was sent, by TCP and by UDP (datagrams of `datagramSize`). */
export async function expectTransfer(
  from: Station,
  to: Station,
  { size, datagramSize }: { readonly size: number; readonly datagramSize: number },
): Promise<void> {
  const file = `/tmp/transfer.$$`;
  const make = `head -c ${size} /dev/urandom >${file}; sha256sum <${file}`;
  const send = (program: string, port: number): string =>
    `${make}; ${perl(program, to.address, port, datagramSize)} <${file}; status=$?; rm ${file}; exit $status`;
  const receive = (program: string, port: number): string =>
    `${perl(program, to.address, port)} >${file}; sha256sum <${file}; stat -c %s ${file}; rm ${file}`;
  const programs = [
    ['TCP', TCP_SEND, TCP_RECEIVE, TCP_PORT],
    ['UDP', UDP_SEND, UDP_RECEIVE, UDP_PORT],
  ] as const;
  for (const [name, sender, receiver, port] of programs) {
    const receiving = to.output(receive(receiver, port), LIMIT);
    const [sent, received] = await Promise.all([from.output(send(sender, port), LIMIT), receiving]);
    expect(received.split('\n'), `${name} from ${from.address} to ${to.address}`).toEqual([
      sent,
      String(size),
    ]);
  }
}

const MTU = 1500;
/** An IPv4 and an ICMP header. */
const PING_HEADERS_SIZE = 28;
const PING_SIZES = [0, 56, MTU - PING_HEADERS_SIZE, 8000];

/** Echoes and files, both ways, in packets that are whole and in fragments. */
export async function expectTraffic(one: Station, other: Station): Promise<void> {
  await expectPings(one, other, PING_SIZES);
  await expectPings(other, one, PING_SIZES);
  await expectTransfer(one, other, { size: 1 << 20, datagramSize: 1400 });
  await expectTransfer(other, one, { size: 1 << 20, datagramSize: 4000 });
}
