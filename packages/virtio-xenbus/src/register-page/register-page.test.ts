import { VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';
import {
  VRING_AVAIL_RING_OFFSET,
  VRING_DESC,
  VRING_USED,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bench } from '../testing/bench.ts';
import { STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK } from '../testing/drive.ts';
import { garbage } from '../testing/garbage.ts';
import { RawRegisters } from '../testing/raw-registers.ts';
import { legacyPageNumber, legacyRing } from './legacy-ring.ts';

const { offset: AT } = VIRTIO_XENBUS_REGISTERS;
const SIZE = 8;

async function negotiate(registers: RawRegisters): Promise<void> {
  await registers.write('status', 1);
  await registers.write('status', STATUS_DRIVER);
  await registers.write('guest_features', await registers.read('host_features'));
  await registers.write('guest_features_high', await registers.read('host_features_high'));
  await registers.write('status', STATUS_FEATURES_OK);
}

/** A ring of the legacy layout, with one buffer of 16 bytes made available when asked. */
function legacyArea({ dma }: RawRegisters): {
  ref: number;
  makeAvailable(): void;
  usedIdx(): number;
  free(): boolean;
} {
  const usedOffset = Math.ceil((vringDescSize(SIZE) + vringAvailSize(SIZE)) / 4096) * 4096;
  const area = dma.allocateCoherent(usedOffset + vringUsedSize(SIZE));
  const view = new DataView(dma.memory.u8.buffer, dma.memory.u8.byteOffset + area.offset, area.size);
  const base = (BigInt(area.addressHigh) << 32n) | BigInt(area.addressLow);
  let count = 0;
  return {
    ref: area.addressLow >>> 12,
    makeAvailable: () => {
      VRING_DESC.write(view, 0, { addr: base, len: 16, flags: 0, next: 0 });
      view.setUint16(vringDescSize(SIZE) + VRING_AVAIL_RING_OFFSET + (count % SIZE) * 2, 0, true);
      count += 1;
      view.setUint16(vringDescSize(SIZE) + 2, count, true);
    },
    usedIdx: () => view.getUint16(usedOffset + VRING_USED.offset.idx, true),
    free: () => dma.freeCoherent(area),
  };
}

describe('the register file', () => {
  it('xen_virtio.c: the registers of 2011 stand where they stood, device configuration from 20 on', () => {
    const { offset } = VIRTIO_XENBUS_REGISTERS;
    expect([
      offset.host_features,
      offset.guest_features,
      offset.queue_pfn,
      offset.queue_num,
      offset.queue_sel,
      offset.queue_notify,
      offset.status,
      offset.isr,
      offset.config,
    ]).toEqual([0, 4, 8, 12, 14, 16, 18, 19, 20]);
  });

  it('says what the device is', async () => {
    const bench = await Bench.create('register-page');
    const registers = await RawRegisters.connect(bench.place);
    expect(await bench.states()).toBe('Initialised Connected');
    expect(await registers.read('abi_version')).toBe(1);
    expect(await registers.read('queue_count')).toBe(1);
    expect(await registers.read('config_size')).toBe(8);
    expect(await registers.read('queue_num')).toBe(SIZE);
    await registers.write('queue_sel', 1);
    expect([await registers.read('queue_sel'), await registers.read('queue_num')]).toEqual([1, 0]);
    expect(await registers.access(false, AT.config, 4, 0)).toBe(0x04030201);
    expect(await registers.access(false, AT.config + 6, 2, 0)).toBe(0x0807);
    await registers.access(true, AT.config + 7, 1, 0xaa);
    expect(bench.device.config[7]).toBe(0xaa);
    expect(await registers.close()).toBe(true);
    expect(await bench.end()).toEqual([]);
  });

  it('the driver of 2011: one ring by its page number, kicks by register, one interrupt with a reason', async () => {
    const bench = await Bench.create('register-page');
    const registers = await RawRegisters.connect(bench.place);
    const area = legacyArea(registers);
    for (let round = 1; round <= 2; round += 1) {
      await negotiate(registers);
      await registers.write('queue_sel', 0);
      await registers.write('queue_pfn', area.ref);
      expect(await registers.read('queue_pfn')).toBe(area.ref);
      await registers.write('status', STATUS_DRIVER_OK);
      const { interruptCount } = registers;
      area.makeAvailable();
      await registers.write('queue_notify', 0);
      await bench.rig.settle();
      expect(area.usedIdx()).toBe(round);
      expect(registers.interruptCount).toBeGreaterThan(interruptCount);
      expect([await registers.read('isr'), await registers.read('isr')]).toEqual([1, 0]);
      bench.device.announceConfig();
      await bench.rig.settle();
      expect([await registers.read('isr'), await registers.read('isr')]).toEqual([2, 0]);
      // §4.1.5.1.3.1 stops the queue with 0; xen_virtio.c resets the device.
      if (round === 1) await registers.write('queue_pfn', 0);
      else await registers.write('status', 0);
      expect([await registers.read('status'), await registers.read('queue_pfn')]).toEqual([0, 0]);
      expect(bench.device.isActive).toBe(false);
      expect(bench.place.backend.grantMapper.live()).toHaveLength(1);
    }
    expect(area.free()).toBe(true);
    expect(await registers.close()).toBe(true);
    expect(await bench.end()).toEqual([]);
  });

  it('an access of another width, to nothing, or a write to what is read only, is none', async () => {
    const bench = await Bench.create('register-page');
    const registers = await RawRegisters.connect(bench.place);
    await registers.access(true, AT.status, 2, 0x0101);
    await registers.access(true, AT.host_features, 4, 7);
    await registers.access(true, AT.queue_num, 2, 7);
    await registers.access(true, 250, 4, 0xffff_ffff);
    expect(await registers.access(false, AT.status, 4, 0)).toBe(0);
    expect(await registers.access(false, AT.host_features + 1, 1, 0)).toBe(0);
    expect([await registers.read('status'), await registers.read('queue_num')]).toEqual([0, SIZE]);
    expect(bench.backend.fault).toBeUndefined();
    expect(await registers.close()).toBe(true);
    expect(await bench.end()).toEqual([]);
  });

  it('the layout of a ring is known again by its page number, and only if it is the legacy one', () => {
    const ref = fc.integer({ min: 1, max: 0xffff_ffff });
    const size = fc.integer({ min: 0, max: 15 }).map((bits) => 2 ** bits);
    fc.assert(
      fc.property(ref, size, fc.nat(3), (number, entries, which) => {
        const ring = legacyRing(number, entries);
        expect(legacyPageNumber(ring)).toBe(number);
        const spoilt = { ...ring };
        if (which === 0) spoilt.descriptorArea += 16n;
        else if (which === 1) spoilt.driverArea += 2n;
        else if (which === 2) spoilt.deviceArea += 4n;
        else spoilt.descriptorArea &= ~(1n << 63n);
        expect(legacyPageNumber(spoilt)).toBe(0);
      }),
    );
  });
});

/** A well-behaved driver is served by the same backend; answers what is left then. */
async function unharmed(bench: Bench): Promise<readonly string[]> {
  const link = await bench.connect();
  await bench.exercise(link);
  return await bench.end(link);
}

describe('a frontend that abuses the page', () => {
  it.each([
    ['of three bytes', { size: 3, offset: 0 }],
    ['of no bytes', { size: 0, offset: 0 }],
    ['beyond the end', { size: 4, offset: 253 }],
    ['far beyond it', { size: 1, offset: 0xffff_ffff }],
  ])('an access %s ends the connection, and only this one', async (_, words) => {
    const bench = await Bench.create('register-page', 2);
    const registers = await RawRegisters.connect(bench.place);
    await registers.postWords({ write: 1, be_active: 1, ...words });
    expect(bench.backend.fault).toContain('not one to the register file');
    expect(await registers.close()).toBe(true);
    expect(await unharmed(bench)).toEqual([]);
  });

  it('any accesses in any order harm nobody else', async () => {
    const offset = fc.oneof(fc.constantFrom(...Object.values(AT)), fc.nat(255));
    const value = fc.oneof(fc.nat(16), fc.integer({ min: 0, max: 0xffff_ffff }));
    const access = fc.tuple(fc.boolean(), offset, fc.constantFrom(1, 2, 4), value);
    await fc.assert(
      fc.asyncProperty(fc.array(access, { minLength: 1, maxLength: 40 }), async (accesses) => {
        const bench = await Bench.create('register-page', 2);
        const registers = await RawRegisters.connect(bench.place);
        await negotiate(registers);
        for (const [isWrite, at, size, what] of accesses) {
          const isInside = at + size <= 256;
          if (isInside) await registers.access(isWrite, at, size, what);
        }
        expect(await registers.close()).toBe(true);
        expect(await unharmed(bench)).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  it('any words in the page harm nobody else', async () => {
    const word = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: 0xffff_ffff }));
    const words = fc.record({ write: word, size: word, offset: word, be_active: word });
    await fc.assert(
      fc.asyncProperty(fc.array(words, { minLength: 1, maxLength: 4 }), async (requests) => {
        const bench = await Bench.create('register-page', 2);
        const registers = await RawRegisters.connect(bench.place);
        for (const request of requests) await registers.postWords(request);
        await registers.close();
        expect(await unharmed(bench)).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  it.each(['page-gref', 'event-channel', 'event-channel2'])(
    '%s may be anything: the backend lets go, and serves the next driver',
    async (key) => {
      await fc.assert(
        fc.asyncProperty(garbage, async (value) => {
          const bench = await Bench.create('register-page', 2);
          const registers = await RawRegisters.connect(bench.place, { [key]: value });
          expect(await registers.close()).toBe(true);
          expect(await unharmed(bench)).toEqual([]);
        }),
        { numRuns: 25 },
      );
    },
  );

  it('§2.7 a page number whose grant is nobody’s: the driver sees NEEDS_RESET', async () => {
    const bench = await Bench.create('register-page', 2);
    const registers = await RawRegisters.connect(bench.place);
    await negotiate(registers);
    await registers.write('queue_pfn', 1999);
    expect(await registers.read('queue_enable')).toBe(0);
    expect((await registers.read('status')) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    expect(bench.host.violation?.section).toBe('2.7');
    await registers.write('status', 0);
    expect(await registers.read('status')).toBe(0);
    expect(await registers.close()).toBe(true);
    expect(await unharmed(bench)).toEqual([]);
  });
});
