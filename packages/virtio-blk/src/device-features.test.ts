import { describe, expect, it } from 'vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBit, featureBits, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_LIFETIME,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_LIFETIME,
  VIRTIO_BLK_PRE_EOL_INFO_WARNING,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_GET_LIFETIME,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
} from '@virtlab/abi/virtio-blk';
import { createBlkDevice } from './device.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { decodeConfig } from './protocol.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { RawRequester } from './testing/request.ts';
import { CAPACITY, codeOf, disk, heldDisk, range, withDevice, withDriver } from './testing/scenes.ts';

const SECTOR = 512;
const WCE = featureBits(VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH);

describe('§5.2.5 cache mode', () => {
  const modes: [string, FeatureBits, 'writeback' | 'writethrough', number][] = [
    ['writeback when both are negotiated', WCE, 'writeback', 1],
    ['as configured', WCE, 'writethrough', 0],
    ['0 when CONFIG_WCE is negotiated without FLUSH', featureBit(VIRTIO_BLK_F_CONFIG_WCE), 'writeback', 0],
  ];
  it.each(modes)('writeback reads %s', async (_what, wanted, cache, expected) => {
    const backend = createMemoryBackend({ contents: disk() });
    await withDevice(
      backend,
      async (requester, bench) => {
        const { offset } = VIRTIO_BLK_CONFIG;
        const [value] = await bench.run(requester.session.readConfig(offset.writeback, 1));
        expect(value).toBe(expected);
      },
      { wanted, cache },
    );
  });

  it('§5.2.6.2 switched to 0, a write is flushed before it completes; switched back, it is not', async () => {
    const backend = heldDisk();
    await withDevice(backend, async (requester, bench) => {
      const at = VIRTIO_BLK_CONFIG.offset.writeback;
      const write = { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR) };
      const sendHeld = async (): Promise<string[]> => {
        backend.begun.length = 0;
        const token = requester.add(write);
        requester.kick();
        await bench.settle();
        while (requester.answer(token) === undefined) {
          backend.end();
          await bench.settle();
        }
        expect(requester.answer(token)!.status).toBe(VIRTIO_BLK_S_OK);
        return [...backend.begun];
      };
      expect(await sendHeld()).toEqual(['write 0+512']);
      await bench.run(requester.session.writeConfig(at, Uint8Array.of(0)));
      expect(await sendHeld()).toEqual(['write 0+512', 'flush']);
      await bench.run(requester.session.writeConfig(at, Uint8Array.of(1)));
      expect(await sendHeld()).toEqual(['write 0+512']);
    });
  });

  it('writes to other fields, and without CONFIG_WCE, change nothing; a reset restores the mode', async () => {
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: disk() }) });
    const before = new Uint8Array(device.configSize);
    const after = new Uint8Array(device.configSize);
    device.readConfig(0, before);
    const bench = new BlkBench({ device });
    for (const wanted of [featureBit(VIRTIO_BLK_F_FLUSH), WCE]) {
      const requester = new RawRequester(await bench.initialize(wanted));
      for (let at = 0; at < device.configSize; at += 1) {
        await bench.run(requester.session.writeConfig(at, Uint8Array.of(at === 32 ? 0 : 0xff)));
      }
      expect(device.isWriteThrough).toBe(wanted === WCE);
      await bench.run(requester.stop());
      device.readConfig(0, after);
      expect(after).toEqual(before);
    }
    await bench.closeClean();
  });

  it('the driver switches it and says what it is', async () => {
    await withDriver(createMemoryBackend({ contents: disk() }), async (driver, bench) => {
      expect(driver.isWriteThrough).toBe(false);
      expect(await bench.run(driver.setWriteback(false))).toBe(false);
      expect(driver.isWriteThrough).toBe(true);
      expect(await bench.run(driver.setWriteback(true))).toBe(true);
    });
    await withDriver(
      createMemoryBackend({ contents: disk() }),
      async (driver, bench) => expect(await bench.run(codeOf(driver.setWriteback(false)))).toBe('UNSUPP'),
      { device: { cacheToggle: false } },
    );
  });
});

describe('shape of the disk', () => {
  const geometry = { cylinders: 1024, heads: 16, sectors: 63 };
  const topology = { physicalBlockExp: 3, alignmentOffset: 1, minIoSize: 8, optIoSize: 256 };

  it('§5.2.4 geometry and topology are offered when given, and the driver sees them', async () => {
    const backend = createMemoryBackend({ contents: disk(), blockSize: 4096 });
    const shape = featureBits(VIRTIO_BLK_F_GEOMETRY, VIRTIO_BLK_F_TOPOLOGY);
    expect(createBlkDevice({ backend }).features & shape).toBe(0n);
    await withDriver(
      backend,
      async (driver) => {
        expect(driver).toMatchObject({ blockSize: 4096, geometry, topology });
      },
      { device: { geometry, topology } },
    );
    await withDriver(backend, async (driver) => {
      expect([driver.geometry, driver.topology]).toEqual([undefined, undefined]);
    });
  });

  it.each([
    { geometry: { ...geometry, cylinders: 65536 } },
    { topology: { ...topology, minIoSize: -1 } },
    { mergeCountMax: 0 },
    { publishPeriod: 0 },
    { secureEraseSectorsMax: 0 },
  ])('RangeError for %o', (options) => {
    const backend = createMemoryBackend({ contents: disk() });
    expect(() => createBlkDevice({ backend, ...options })).toThrow(RangeError);
  });
});

describe('§5.2.4 seg_max and size_max', () => {
  const cuts = (count: number): number[] => Array.from({ length: count - 1 }, () => SECTOR);

  it('negotiated, a request that breaks them is IOERR and changes nothing; one that keeps them is served', async () => {
    const contents = disk();
    await withDevice(
      createMemoryBackend({ contents }),
      async (requester, bench) => {
        const read = { dataSize: 4 * SECTOR, writableCuts: cuts(4) };
        const tooMany = await requester.send(bench, {
          ...read,
          writableCuts: [...cuts(3), 100, SECTOR - 100, SECTOR],
        });
        expect(tooMany.status).toBe(VIRTIO_BLK_S_IOERR);
        const tooLarge = await requester.send(bench, {
          type: VIRTIO_BLK_T_OUT,
          payload: new Uint8Array(3 * SECTOR),
        });
        expect([tooLarge.status, contents]).toEqual([VIRTIO_BLK_S_IOERR, disk()]);
        expect((await requester.send(bench, { ...read, writableCuts: [...cuts(4), SECTOR] })).status).toBe(
          VIRTIO_BLK_S_OK,
        );
      },
      { segMax: 4, sizeMax: 2 * SECTOR },
    );
  });

  it('not negotiated, they are no limit', async () => {
    const wanted = featureBit(VIRTIO_BLK_F_FLUSH);
    await withDevice(
      createMemoryBackend({ contents: disk() }),
      async (requester, bench) => {
        const request = { dataSize: 8 * SECTOR, writableCuts: [...cuts(4), SECTOR] };
        expect((await requester.send(bench, request)).status).toBe(VIRTIO_BLK_S_OK);
      },
      { segMax: 2, sizeMax: SECTOR, wanted },
    );
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: disk() }), sizeMax: SECTOR });
    const both = featureBits(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX);
    expect(device.features & both).toBe(both);
  });
});

describe('lifetime and secure erase', () => {
  const lifetime = { preEolInfo: VIRTIO_BLK_PRE_EOL_INFO_WARNING, typeA: 3, typeB: 11 };
  const worn = () => Object.assign(createMemoryBackend({ contents: disk() }), { lifetime: () => lifetime });

  it('§5.2.6 GET_LIFETIME: three words, nothing into a buffer that is too short, UNSUPP if not negotiated', async () => {
    const type = VIRTIO_BLK_T_GET_LIFETIME;
    await withDevice(worn(), async (requester, bench) => {
      const { status, data, usedSize } = await requester.send(bench, { type, dataSize: 6 });
      const { pre_eol_info, device_lifetime_est_typ_a, device_lifetime_est_typ_b } = VIRTIO_BLK_LIFETIME.read(
        new DataView(data.buffer, data.byteOffset),
        0,
      );
      expect([status, usedSize]).toEqual([VIRTIO_BLK_S_OK, 7]);
      expect([pre_eol_info, device_lifetime_est_typ_a, device_lifetime_est_typ_b]).toEqual([2, 3, 11]);
      expect((await requester.send(bench, { type, dataSize: 5 })).status).toBe(VIRTIO_BLK_S_IOERR);
    });
    await withDevice(
      worn(),
      async (requester, bench) => {
        expect((await requester.send(bench, { type, dataSize: 6 })).status).toBe(VIRTIO_BLK_S_UNSUPP);
      },
      { wanted: 0n },
    );
    expect(createBlkDevice({ backend: worn() }).features & featureBit(VIRTIO_BLK_F_LIFETIME)).not.toBe(0n);
  });

  it('the driver asks for it, and says UNSUPP where there is none', async () => {
    await withDriver(worn(), async (driver, bench) => {
      expect(await bench.run(driver.getLifetime())).toEqual(lifetime);
    });
    await withDriver(createMemoryBackend({ contents: disk() }), async (driver, bench) => {
      expect(await bench.run(codeOf(driver.getLifetime()))).toBe('UNSUPP');
    });
  });

  it('§5.2.6 SECURE_ERASE erases its ranges, within its own limit', async () => {
    const contents = disk();
    await withDevice(
      createMemoryBackend({ contents }),
      async (requester, bench) => {
        const type = VIRTIO_BLK_T_SECURE_ERASE;
        const payload = new Uint8Array([...range(2n, 3), ...range(100n, 1)]);
        expect((await requester.send(bench, { type, payload })).status).toBe(VIRTIO_BLK_S_OK);
        const expected = disk()
          .fill(0, 2 * SECTOR, 5 * SECTOR)
          .fill(0, 100 * SECTOR, 101 * SECTOR);
        expect(contents).toEqual(expected);
        expect((await requester.send(bench, { type, payload: range(0n, 5) })).status).toBe(
          VIRTIO_BLK_S_IOERR,
        );
        expect(contents).toEqual(expected);
      },
      { secureEraseSectorsMax: 4 },
    );
  });

  it('the driver cuts a range at the limit, and ends requests where the alignment wants it', async () => {
    const contents = disk();
    await withDriver(
      createMemoryBackend({ contents, blockSize: 2048 }),
      async (driver, bench) => {
        await bench.run(driver.secureErase(1, 20));
        expect(contents).toEqual(disk().fill(0, SECTOR, 21 * SECTOR));
        // 1..4 would end at 5; aligned to 4: 1..3, 4..7, 8..11, 12..15, 16..19, 20.
        expect(driver.statistics.requests).toBe(6);
      },
      { device: { secureEraseSectorsMax: 4 } },
    );
  });
});

describe('§5.2.6 a capacity that changes', () => {
  it('reaches the driver by a configuration change; requests follow the new end', async () => {
    const backend = Object.assign(createMemoryBackend({ contents: disk() }), {
      capacitySectors: CAPACITY - 8,
      listener: undefined as (() => void) | undefined,
      onCapacityChange(listener: (() => void) | undefined): void {
        backend.listener = listener;
      },
    });
    await withDriver(backend, async (driver, bench) => {
      const seen: number[] = [];
      driver.onCapacityChange((capacity) => seen.push(capacity));
      expect(driver.capacitySectors).toBe(CAPACITY - 8);
      expect(await bench.run(codeOf(driver.read(CAPACITY - 8, new Uint8Array(SECTOR))))).toBe('ERANGE');
      for (const capacity of [CAPACITY, 100]) {
        backend.capacitySectors = capacity;
        backend.listener?.();
        await bench.settle();
        await bench.run(driver.read(capacity - 1, new Uint8Array(SECTOR)));
      }
      expect(seen).toEqual([CAPACITY, 100]);
      expect(await bench.run(codeOf(driver.read(100, new Uint8Array(SECTOR))))).toBe('ERANGE');
      const config = decodeConfig(await bench.run(bench.readConfig()));
      expect(config.capacity).toBe(100n);
    });
  });
});

describe('§5.2.3 discard', () => {
  it('is offered for a writable disk, and is not if so said', () => {
    const offers = (options: { readonly discard?: boolean; readonly readOnly?: boolean }): boolean => {
      const backend = createMemoryBackend({ contents: disk(), readOnly: options.readOnly ?? false });
      const { discard = true } = options;
      return hasFeature(createBlkDevice({ backend, discard }).features, VIRTIO_BLK_F_DISCARD);
    };
    expect([offers({}), offers({ discard: false }), offers({ readOnly: true })]).toEqual([
      true,
      false,
      false,
    ]);
  });
});
