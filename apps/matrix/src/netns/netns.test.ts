import type { FeatureBits } from '@virtlab/abi/brands';
import { NET_DRIVER_FEATURES, NET_DRIVER_OFFLOADS } from '@virtlab/virtio-net';
import { describe, expect, it, vi } from 'vitest';
import { iperf } from './iperf.ts';
import { DOM0_IP, DOM0_IP6, type Wire, createWire, wireUnavailable } from './wire.ts';

const reason = wireUnavailable();
// VIRTLAB_NO_NETNS=1: whoever runs the tests knows that this machine does not allow it, and has said so.
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1' && process.env['VIRTLAB_NO_NETNS'] !== '1';
if (reason !== undefined && isRequired) throw new Error(reason);

const MTU = 9000;
/** An IPv4 and an ICMP header. */
const PING_HEADERS_SIZE = 28;

const PING_COUNT = 3;
const PING_TIMEOUT_S = '10';

/**
 * Each is answered, or this rejects. One at a time: of several, ping waits for the last answer only as long as two others took.
 * ping checks the echo's checksum, and iperf3 those of TCP and UDP: in the kernel, as the interfaces do not.
 */
async function ping({ guestSide }: Wire, address: string, size: number): Promise<void> {
  const words = ['-n', '-q', '-c', '1', '-W', PING_TIMEOUT_S, '-s', String(size), '-M', 'do', address];
  for (let count = 0; count < PING_COUNT; count += 1) await guestSide.check('ping', ...words);
}

/** The kernels' neighbour tables and queues come up by and by, and what they lose meanwhile is theirs. */
async function untilAnswered({ guestSide }: Wire): Promise<void> {
  await vi.waitFor(async () => await guestSide.check('ping', '-n', '-q', '-c', '1', '-W', '1', DOM0_IP), {
    timeout: 15_000,
    interval: 50,
  });
}

async function measure(wire: Wire, name: string): Promise<void> {
  const { guestSide, dom0Side } = wire;
  const runs: readonly (readonly [string, readonly string[]])[] = [
    ['TCP out', []],
    ['TCP in', ['-R']],
    ['UDP out', ['-u', '-b', '200M', '-l', '1400']],
    ['UDP in', ['-u', '-b', '200M', '-l', '1400', '-R']],
  ];
  for (const [what, args] of runs) {
    const { gbitPerSecond, lostPercent } = await iperf(dom0Side, guestSide, DOM0_IP, args);
    const lost = args.includes('-u') ? `, ${lostPercent.toFixed(2)} % lost` : '';
    console.log(`${name}: ${what} ${gbitPerSecond.toFixed(2)} Gbit/s${lost}`);
    expect(gbitPerSecond).toBeGreaterThan(0);
  }
}

describe.skipIf(reason !== undefined)(
  `two network namespaces joined by virtio-net over virtio_xenbus${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    const settings: readonly (readonly [string, FeatureBits])[] = [
      ['with offloads', NET_DRIVER_FEATURES | NET_DRIVER_OFFLOADS],
      ['without offloads', NET_DRIVER_FEATURES],
    ];
    it.each(settings)(
      '%s: ping and iperf3 pass, and nothing is left',
      { timeout: 60_000 },
      async (name, wanted) => {
        await using wire = await createWire({ wanted, mtu: MTU });
        await untilAnswered(wire);
        for (const size of [0, 1, 56, 1472, 1473, 4000, MTU - PING_HEADERS_SIZE]) {
          await ping(wire, DOM0_IP, size);
        }
        await ping(wire, DOM0_IP6, 1400);
        await measure(wire, name);
        const { guest, dom0 } = await wire.report();
        console.log(`${name}: driver ${JSON.stringify(guest.driver)}, device ${JSON.stringify(dom0)}`);
        expect(guest.driver).toMatchObject({ rxDropped: 0 });
        expect(dom0).toMatchObject({ txHeaderShort: 0, txOffload: 0, txFrameSize: 0, refused: 0 });
        expect(await wire.close()).toEqual([]);
      },
    );
  },
);
