import { afterAll, beforeAll, expect, it } from 'vitest';
import { VIRTIO_F_RING_PACKED, featureBit, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_MRG_RXBUF,
} from '@virtlab/abi/virtio-net';
import { type LinuxGuest, type QemuProperties, startLinuxGuest, vhostUserNet } from '@virtlab/linux-guest';
import type { Daemon } from '../backends/testing/daemon.ts';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { daemonFeatures, guestFeatures } from './testing/features.ts';
import { NO_OFFLOADS } from './testing/offloads.ts';
import { configure, expectPings, expectTransfer } from './testing/stations.ts';

const JUMBO = 9000;
/** An IPv4 and an ICMP header. */
const PING_HEADERS_SIZE = 28;

const OFFLOADS = [
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
];
const PLAIN: QemuProperties = { event_idx: false, indirect_desc: false, mrg_rxbuf: false };

interface Cable {
  readonly name: string;
  readonly mtu: number;
  /** Of the card of the first guest, and of the second. */
  readonly properties: readonly [QemuProperties, QemuProperties];
  readonly hasOffloads: readonly [boolean, boolean];
}

/** A daemon each, and on each a card of both guests. */
const CABLES: readonly Cable[] = [
  { name: 'as they come', mtu: 1500, properties: [{}, {}], hasOffloads: [true, true] },
  {
    name: 'packed rings and an MTU of 9000',
    mtu: JUMBO,
    hasOffloads: [true, true],
    properties: [
      { packed: true, host_mtu: JUMBO },
      { packed: true, host_mtu: JUMBO, event_idx: false },
    ],
  },
  {
    name: 'offloads on one side only',
    mtu: 1500,
    hasOffloads: [false, true],
    properties: [NO_OFFLOADS, {}],
  },
  {
    name: 'no offloads, plain rings',
    mtu: 1500,
    hasOffloads: [false, false],
    properties: [
      { ...NO_OFFLOADS, ...PLAIN },
      { ...NO_OFFLOADS, ...PLAIN, packed: true },
    ],
  },
];

describeGuests('two Linux guests on switches of virtlab vhost-user-net', () => {
  const folder = new DaemonFolder();
  const daemons: Daemon[] = [];
  const guests: LinuxGuest[] = [];
  const socket = (cable: number, side: number): string => folder.file(`s${cable}${side}`);
  const macOf = (cable: number, side: number): string => `52:54:00:00:0${cable}:0${side}`;

  const args = (cable: number): readonly string[] => [
    ...[0, 1].flatMap((side) => ['--socket-path', socket(cable, side)]),
    '--mtu',
    String(CABLES[cable]!.mtu),
  ];

  beforeAll(async () => {
    for (const cable of CABLES.keys()) daemons.push(await folder.start('vhost-user-net', ...args(cable)));
    for (const side of [0, 1] as const) {
      const devices = CABLES.map(({ properties }, cable) =>
        vhostUserNet({
          id: `net${cable}`,
          socketPath: socket(cable, side),
          mac: macOf(cable, side),
          properties: properties[side],
          reconnectSeconds: 1,
        }),
      );
      guests.push(await startLinuxGuest({ programs: ['perl'], devices }));
    }
  });
  afterAll(async () => {
    await Promise.all(guests.map((guest) => guest.close()));
  });

  it.each(CABLES.map((cable, index) => [cable.name, index] as const))(
    'negotiates, pings, and transfers by TCP and UDP both ways: %s',
    async (_, index) => {
      const { mtu, properties, hasOffloads } = CABLES[index]!;
      const card = `eth${index}`;
      const sides = [0, 1] as const;
      for (const side of sides) {
        const guest = guests[side]!;
        expect(await guest.output(`cat /sys/class/net/${card}/address`)).toBe(macOf(index, side));
        expect(await guest.output(`cat /sys/class/net/${card}/mtu`)).toBe(String(mtu));
        await configure(guest, card, `10.0.${index}.${side + 1}`);
        const accepted = await guestFeatures(guest, `/sys/class/net/${card}/device`);
        for (const bit of OFFLOADS)
          expect(hasFeature(accepted, bit), `${side}: ${bit}`).toBe(hasOffloads[side]);
        const wanted = properties[side];
        const rings: readonly (readonly [number, boolean])[] = [
          [VIRTIO_F_RING_PACKED, wanted['packed'] === true],
          [VIRTIO_RING_F_EVENT_IDX, wanted['event_idx'] !== false],
          [VIRTIO_RING_F_INDIRECT_DESC, wanted['indirect_desc'] !== false],
          [VIRTIO_NET_F_MRG_RXBUF, wanted['mrg_rxbuf'] !== false],
        ];
        for (const [bit, isWanted] of rings)
          expect(hasFeature(accepted, bit), `${side}: ${bit}`).toBe(isWanted);
        const told = daemonFeatures(daemons[index]!, socket(index, side));
        expect(told & ~accepted, 'QEMU tells us of nothing that the guest did not accept').toBe(0n);
        const both = [...OFFLOADS, ...rings.map(([bit]) => bit)].reduce(
          (all, bit) => all | featureBit(bit),
          0n,
        );
        expect(told & both, 'the daemon knows them').toBe(accepted & both);
      }
      const [one, other] = sides.map((side) => {
        const output = guests[side]!.output.bind(guests[side]!);
        return { address: `10.0.${index}.${side + 1}`, output };
      });
      const fragments = "awk '/^Ip: [0-9]/ { print $NF + $(NF - 1) + $(NF - 2) }' /proc/net/snmp";
      const before = await one!.output(fragments);
      await expectPings(one!, other!, [0, 56, mtu - PING_HEADERS_SIZE]);
      expect(await one!.output(fragments), 'no packet was in fragments').toBe(before);
      await expectPings(other!, one!, [1, mtu, 20_000]);
      const amounts = { size: 1 << 20, datagramSize: mtu === JUMBO ? 8900 : 1400 };
      await expectTransfer(one!, other!, amounts);
      await expectTransfer(other!, one!, { size: 1_234_567, datagramSize: 4000 });
      for (const guest of guests) {
        const dropped = await guest.output(`cat /sys/class/net/${card}/statistics/*_errors`);
        expect(new Set(dropped.split('\n'))).toEqual(new Set(['0']));
      }
    },
  );

  it('a cable that is pulled and put back, and a daemon that is killed and started again', async () => {
    const [one, other] = [guests[0]!, guests[1]!];
    const carrier = (state: number): string => `[ "$(cat /sys/class/net/eth0/carrier)" = ${state} ]`;
    await one.setLink('net0', false);
    await one.waitUntil(carrier(0));
    expect((await one.run('ping -c 1 -W 1 10.0.0.2')).status).not.toBe(0);
    expect(await other.output('cat /sys/class/net/eth0/carrier')).toBe('1');
    await one.setLink('net0', true);
    await one.waitUntil(carrier(1));
    await one.waitUntil('ping -c 1 -W 1 10.0.0.2');

    folder.forget(daemons[0]!);
    expect(await daemons[0]!.end('SIGKILL')).toBe('SIGKILL');
    for (const guest of [one, other]) await guest.waitUntil(carrier(0));
    daemons[0] = await folder.start('vhost-user-net', ...args(0));
    for (const guest of [one, other]) await guest.waitUntil(carrier(1));
    for (const [guest, address] of [
      [one, '10.0.0.2'],
      [other, '10.0.0.1'],
    ] as const) {
      await guest.waitUntil(`ping -c 1 -W 1 ${address}`, { timeoutMs: 60_000 });
    }
    await one.reboot();
    await configure(one, 'eth1', '10.0.1.1');
    await one.waitUntil('ping -c 1 -W 1 10.0.1.2', { timeoutMs: 60_000 });
    await Promise.all(guests.map((guest) => guest.powerOff()));
  });
});
