import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_BLOCK, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
} from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX } from '@virtlab/abi/virtio-ring';
import { createSimulation } from '@virtlab/aio/simulated';
import type { ScriptedTransport } from '@virtlab/virtio/testing';
import type { NetDriver } from './driver-contract.ts';
import type { NetDriverOptions } from './driver-options.ts';
import { createNetDriver } from './driver.ts';
import type { NetError } from './errors.ts';
import { type NetConfig, TRANSMIT_QUEUE, encodeConfig } from './protocol.ts';
import { hex, mac, makeFrame } from './testing/frames.ts';
import {
  type ScriptedCardOptions,
  createScriptedCard,
  receiveBytes,
  takeBuffer,
} from './testing/scripted-card.ts';

const BASIC = featureBits(VIRTIO_RING_F_EVENT_IDX, VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MTU);
const MERGING = BASIC | featureBits(VIRTIO_NET_F_MRG_RXBUF);
const GOOD: Partial<NetConfig> = { mac: mac(1), mtu: 1500, status: 1 };
const FRAME = makeFrame(mac(1), mac(2), 60);
/** Of a card with one pair of queues (§5.1.2). */
const CONTROL_QUEUE = 2;
const TIMEOUT_MS = 100;

interface Scene {
  readonly driver: NetDriver;
  readonly card: ScriptedTransport;
  readonly received: Uint8Array[];
  settle(): Promise<void>;
  advance(ms: number): Promise<void>;
}

type Setup = Partial<NetDriverOptions> &
  Partial<ScriptedCardOptions> & { readonly fields?: Partial<NetConfig>; readonly features?: FeatureBits };

/** A loop, and a driver being brought up over a scripted card. */
function begin({
  fields = {},
  features = MERGING,
  queueSizeMax,
  queueCount,
  deviceType,
  memorySize,
  ...options
}: Setup): {
  card: ScriptedTransport;
  driver: Promise<NetDriver>;
  settle(): Promise<void>;
  advance(ms: number): Promise<void>;
  leaks(): readonly string[];
} {
  const simulation = createSimulation({ seed: 1 });
  const aio = simulation.createContext('driver');
  const card = createScriptedCard({
    features,
    config: encodeConfig({ ...GOOD, ...fields }),
    ...(queueSizeMax !== undefined && { queueSizeMax }),
    ...(queueCount !== undefined && { queueCount }),
    ...(deviceType !== undefined && { deviceType }),
    ...(memorySize !== undefined && { memorySize }),
  });
  const driver = createNetDriver(card.link, { aio, ...options });
  driver.catch(() => undefined);
  const advance = async (ms: number): Promise<void> => {
    await simulation.advance(ms);
  };
  const settle = (): Promise<void> => advance(1);
  return { card, driver, settle, advance, leaks: () => [...card.leaks(), ...aio.leaks()] };
}

async function withScript(body: (scene: Scene) => Promise<void>, setup: Setup = {}): Promise<void> {
  const { card, driver: bringUp, settle, advance, leaks } = begin(setup);
  await settle();
  const driver = await bringUp;
  const received: Uint8Array[] = [];
  driver.onFrame((frame) => received.push(frame.slice()));
  await settle();
  await body({ driver, card, received, settle, advance });
  const closing = driver.close();
  await settle();
  await closing;
  expect(leaks(), 'what is still held').toEqual([]);
}

function packet(frame: Uint8Array, { flags = 0, gsoType = 0, bufferCount = 1 } = {}): Uint8Array {
  return Uint8Array.of(
    flags,
    gsoType,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    bufferCount & 0xff,
    bufferCount >> 8,
    ...frame,
  );
}

describe('a device or configuration that makes no sense is refused, and nothing stays lent', () => {
  it.each([
    ['another type of device', { deviceType: VIRTIO_ID_BLOCK }, 'device type 2'],
    ['one queue', { queueCount: 1 }, '1 queues'],
    ['a group address', { fields: { mac: new Uint8Array(6).fill(0xff) } }, 'mac 255:255'],
    ['the address zero', { fields: { mac: new Uint8Array(6) } }, 'mac 0:0'],
    ['§5.1.4.1 an MTU of 67', { fields: { mtu: 67 } }, 'mtu 67'],
    ['an MTU of 0', { fields: { mtu: 0 } }, 'mtu 0'],
    [
      '§5.1.4.2 a ring that does not hold one frame of the MTU',
      { fields: { mtu: 65535 }, queueSizeMax: 4 },
      'ENOSPC',
    ],
    ['buffers that do not fit the memory', { fields: { mtu: 9000 }, memorySize: 128 << 10 }, 'ENOMEM'],
    ['no memory at all', { memorySize: 8192, queueSizeMax: 256 }, 'ENOMEM'],
  ] satisfies [string, Setup, string][])('%s', async (_what, setup, message) => {
    const { driver, settle, leaks } = begin(setup);
    await settle();
    await expect(driver).rejects.toThrow(message);
    expect(leaks()).toEqual([]);
  });

  it.each([
    [{ rxBufferSize: 10 }, 'rxBufferSize 10'],
    [{ rxBufferSize: 14 }, 'rxBufferSize 14'],
    [{ rxBufferCount: 0 }, 'rxBufferCount 0'],
    [{ timeoutMs: 0 }, 'timeoutMs 0'],
    [{ wanted: 1n << 50n }, 'wanted 0x4000000000000'],
    [{ ringFeatures: 1n }, 'ringFeatures 0x1'],
    [{ queuePairs: 0 }, 'queuePairs 0'],
    [{ txTimeoutMs: -1 }, 'txTimeoutMs -1'],
    [{ queueSize: 3 }, 'queueSizeMax 3'],
  ] satisfies [Setup, string][])('options %o', async (setup, message) => {
    await expect(begin(setup).driver).rejects.toThrow(message);
  });

  it('§5.1.5 without MAC the address is made up: individual and local; §5.1.4.2 without STATUS the link is up', async () => {
    await withScript(
      async ({ driver }) => {
        expect(driver.mac[0]! & 3).toBe(2);
        expect([driver.mtu, driver.linkUp, driver.mac.length]).toEqual([1500, true, 6]);
      },
      { features: 0n },
    );
  });
});

describe('what the device says of a receive buffer', () => {
  it.each([
    ['more than the buffer', packet(FRAME), 1 << 20],
    ['2^32 - 1 bytes', packet(FRAME), 0xffff_ffff],
    ['nothing', packet(FRAME), 0],
    ['less than a header', packet(FRAME), 11],
    ['a header and nothing', packet(FRAME), 12],
    ['13 bytes of frame', packet(FRAME), 25],
    ['a checksum to finish', packet(FRAME, { flags: 1 }), 72],
    ['segmentation', packet(FRAME, { gsoType: 1 }), 72],
    ['a frame larger than the MTU allows', packet(new Uint8Array(1519)), 1531],
  ])('is dropped and counted: %s', async (_what, bytes, usedSize) => {
    for (const features of [BASIC, MERGING]) {
      await withScript(
        async ({ driver, card, received, settle }) => {
          receiveBytes(card, bytes, usedSize);
          receiveBytes(card, packet(FRAME));
          card.call(0);
          await settle();
          expect(driver.statistics).toMatchObject({ rxDropped: 1, rxFrames: 1, rxBytes: 60 });
          expect(received.map(hex)).toEqual([hex(FRAME)]);
          expect([card.available(0), driver.failure]).toEqual([16, undefined]);
        },
        { features },
      );
    }
  });

  it('§5.1.9.3.2 num_buffers is ignored without MRG_RXBUF', async () => {
    await withScript(
      async ({ card, received, settle }) => {
        receiveBytes(card, packet(FRAME, { bufferCount: 77 }));
        receiveBytes(card, packet(FRAME, { bufferCount: 0 }));
        card.call(0);
        await settle();
        expect(received.map(hex)).toEqual([hex(FRAME), hex(FRAME)]);
      },
      { features: BASIC },
    );
  });

  it.each([
    ['none', 0, 'num_buffers 0 with 16 buffers'],
    ['more than are used', 2, 'num_buffers 2, of which 1 are used'],
    ['more than there are', 17, 'num_buffers 17 with 16 buffers'],
    ['65,535', 0xffff, 'num_buffers 65535 with 16 buffers'],
  ])('§5.1.9.4 num_buffers that cannot be ends the driver: %s', async (_what, bufferCount, message) => {
    await withScript(async ({ driver, card, received, settle }) => {
      receiveBytes(card, packet(FRAME, { bufferCount }));
      card.call(0);
      await settle();
      expect(driver.failure).toContain(message);
      expect(received).toEqual([]);
      expect(() => driver.send(FRAME)).toThrow('ENODEV');
    });
  });

  it('§5.1.9.4 merges, and drops as one what does not merge to a frame', async () => {
    await withScript(
      async ({ driver, card, received, settle }) => {
        const large = makeFrame(mac(1), mac(2), 300);
        const send = (overstated?: number): void => {
          receiveBytes(card, packet(large.subarray(0, 116), { bufferCount: 3 }));
          receiveBytes(card, large.subarray(116, 244), overstated);
          receiveBytes(card, large.subarray(244));
        };
        send();
        send(129);
        receiveBytes(card, packet(large.subarray(0, 116), { bufferCount: 13 }));
        for (let index = 1; index < 13; index += 1) receiveBytes(card, new Uint8Array(128));
        send();
        card.call(0);
        await settle();
        expect(received.map(hex)).toEqual([hex(large), hex(large)]);
        expect(driver.statistics).toMatchObject({ rxDropped: 2, rxFrames: 2 });
      },
      { rxBufferSize: 128, queueSizeMax: 64 },
    );
  });

  it('is dropped and counted: one byte more than a small buffer has', async () => {
    await withScript(
      async ({ driver, card, received, settle }) => {
        receiveBytes(card, packet(FRAME), 129);
        receiveBytes(card, packet(makeFrame(mac(1), mac(2), 116)));
        card.call(0);
        await settle();
        expect(received.map(({ length }) => length)).toEqual([116]);
        expect(driver.statistics.rxDropped).toBe(1);
      },
      { rxBufferSize: 128 },
    );
  });

  it('a frame is private memory: the device writes to the buffer in vain', async () => {
    await withScript(async ({ driver, card, settle }) => {
      const { head, buffer } = takeBuffer(card, 0);
      buffer.set(packet(FRAME));
      const seen: string[] = [];
      driver.onFrame((frame) => {
        buffer.fill(0xee);
        seen.push(hex(frame));
      });
      card.rings[0]!.use(head, 72);
      card.call(0);
      await settle();
      expect(seen).toEqual([hex(FRAME)]);
    });
  });

  it('survives anything that a device writes: random used entries and bytes', async () => {
    const step = fc.record({
      ring: fc.constantFrom(0, 1),
      head: fc.oneof({ weight: 4, arbitrary: fc.constant(-1) }, fc.nat(40)),
      usedSize: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.nat()),
      bytes: fc.uint8Array({ minLength: 0, maxLength: 64 }),
      isSent: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        await withScript(
          async ({ driver, card, received, settle }) => {
            for (const { ring, head, usedSize, bytes, isSent } of steps) {
              if (isSent && driver.failure === undefined) driver.send(FRAME);
              driver.kick();
              if (card.available(ring) > 0) {
                const taken = takeBuffer(card, ring);
                if (ring === 0) taken.buffer.set(bytes.subarray(0, taken.buffer.length));
                card.rings[ring]!.use(head < 0 ? taken.head : head, usedSize);
              }
              card.call(ring);
              await settle();
            }
            expect(received.every(({ length }) => length >= 14 && length <= 1518)).toBe(true);
          },
          { rxBufferSize: 128, queueSizeMax: 16 },
        );
      }),
      { numRuns: 60 },
    );
  });
});

describe('the ring of sent frames', () => {
  it('what is staged by who asks again while waiting is shown to the device when the ring is full anew', async () => {
    await withScript(
      async ({ driver, card }) => {
        while (driver.send(FRAME)) continue;
        for (let round = 0; round < 10; round += 1) {
          expect(card.available(TRANSMIT_QUEUE), `round ${round}`).toBeGreaterThan(0);
          // Too few for a driver that waits to be told that there is room.
          card.rings[TRANSMIT_QUEUE]!.use(card.take(TRANSMIT_QUEUE).head, 0);
          expect([driver.send(FRAME), driver.send(FRAME)]).toEqual([true, false]);
        }
        expect(card.available(TRANSMIT_QUEUE)).toBe(16);
      },
      { queueSizeMax: 16 },
    );
  });

  it.each([
    ['a head that is not in flight', 9],
    ['a head beyond the ring', 99],
  ])('§2.7.8 %s ends the driver', async (_what, head) => {
    await withScript(async ({ driver, card, settle }) => {
      for (let index = 0; index < 8; index += 1) driver.send(FRAME);
      driver.kick();
      card.rings[1]!.use(head, 0);
      driver.send(FRAME);
      await settle();
      expect(driver.failure).toContain('queue 1');
    });
  });

  it('the header is zero and the size exact; a used size means nothing', async () => {
    await withScript(async ({ driver, card, settle }) => {
      driver.send(FRAME);
      driver.kick();
      const { head, buffer } = takeBuffer(card, 1);
      expect(hex(buffer)).toBe(`000000000000000000000000${hex(FRAME)}`);
      card.rings[1]!.use(head, 0xffff);
      await settle();
      expect(driver.failure).toBeUndefined();
    });
  });
});

describe('the end of the device', () => {
  it.each([
    ['needs reset', (card: ScriptedTransport) => card.needReset(), 'needs reset'],
    ['is gone', (card: ScriptedTransport) => card.vanish('unplugged'), 'unplugged'],
  ])('%s: who waits for room is told, sends throw ENODEV', async (_what, end, message) => {
    await withScript(async ({ driver, card, settle }) => {
      let writable = 0;
      driver.onWritable(() => (writable += 1));
      while (driver.send(FRAME));
      await settle();
      end(card);
      await settle();
      expect(driver.failure).toContain(message);
      expect(writable).toBe(1);
      expect(() => driver.send(FRAME)).toThrow('ENODEV');
      expect(() => driver.reserve()).toThrow('ENODEV');
      driver.kick();
    });
  });

  it('a control request that is never answered ends with ETIMEDOUT, frames go on, and nothing is left', async () => {
    const features =
      MERGING | featureBits(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_MAC_ADDR);
    const body = async ({ driver, card, received, settle, advance }: Scene): Promise<void> => {
      const outcomes: string[] = [];
      const note = (error: unknown): void => void outcomes.push((error as NetError).code);
      const request = driver.control!.setMode('promiscuous', false).catch(note);
      // Waits its turn, which never comes.
      const next = driver.control!.setMac(mac(3)).catch(note);
      await settle();
      expect(card.available(CONTROL_QUEUE)).toBe(1);
      await advance(TIMEOUT_MS - 3);
      expect(outcomes).toEqual([]);
      await advance(3);
      await Promise.all([request, next]);
      expect(outcomes).toEqual(['ETIMEDOUT', 'ETIMEDOUT']);
      await expect(driver.control!.setMode('allMulticast', true)).rejects.toThrow('ETIMEDOUT');
      expect(card.available(CONTROL_QUEUE), 'no other request is made').toBe(1);

      // An answer that comes after all changes nothing, and the card still moves frames.
      card.rings[CONTROL_QUEUE]!.use(card.take(CONTROL_QUEUE).head, 1);
      card.call(CONTROL_QUEUE);
      receiveBytes(card, packet(FRAME));
      card.call(0);
      await settle();
      expect([driver.failure, driver.mac, received.map(hex)]).toEqual([undefined, mac(1), [hex(FRAME)]]);
    };
    await withScript(body, { features, queueCount: 3, timeoutMs: TIMEOUT_MS });
  });

  it('§5.1.4.2 follows the link; what cannot be read changes nothing', async () => {
    await withScript(async ({ driver, card, settle }) => {
      const changes: boolean[] = [];
      driver.onLinkChange((up) => changes.push(up));
      card.changeConfig(encodeConfig({ ...GOOD, status: 0 }));
      await settle();
      expect([driver.linkUp, driver.send(FRAME)]).toEqual([false, true]);
      driver.kick();
      expect([card.available(1), driver.statistics.txDropped]).toEqual([0, 1]);
      card.changeConfig(encodeConfig({ ...GOOD, status: 1 }));
      card.changeConfig();
      await settle();
      card.isConfigBroken = true;
      card.changeConfig(encodeConfig({ ...GOOD, status: 0 }));
      await settle();
      expect([driver.linkUp, changes, driver.failure]).toEqual([true, [false, true], undefined]);
    });
  });
});
