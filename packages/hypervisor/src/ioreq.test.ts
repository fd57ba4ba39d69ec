import { IOREQ, IOREQ_READ, IOREQ_TYPE_COPY, IOREQ_TYPE_PCI_CONFIG, IOREQ_WRITE } from '@virtlab/abi/ioreq';
import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import { IoreqSlot, type TrappedAccess } from './ioreq.ts';

const NOTHING: TrappedAccess = {
  type: 0,
  direction: 0,
  addressLow: 0,
  addressHigh: 0,
  size: 0,
  data: 0,
  dataHigh: 0,
};

describe('ioreq slot', () => {
  it('hv ioreq.h: carries an access to the device model and its answer back', () => {
    const region = memoryRegion(new ArrayBuffer(4096));
    const [domain, model] = [new IoreqSlot(region, 0, 1), new IoreqSlot(region, 0, 1)];
    const access = { ...NOTHING };
    expect(model.take(access)).toBe(false);
    domain.submit(IOREQ_TYPE_PCI_CONFIG, IOREQ_READ, 0x10, 0x18, 4, 0);
    expect(domain.isAnswered()).toBe(false);
    expect(model.take(access)).toBe(true);
    expect(access).toEqual({
      type: IOREQ_TYPE_PCI_CONFIG,
      direction: IOREQ_READ,
      addressLow: 0x10,
      addressHigh: 0x18,
      size: 4,
      data: 0,
      dataHigh: 0,
    });
    expect(model.take(access)).toBe(false);
    model.answer(IOREQ_READ, 0xfee1_dead);
    expect(domain.isAnswered()).toBe(true);
    expect(domain.takeResponse()).toBe(0xfee1_dead);
    expect(model.take(access)).toBe(false);
  });

  it('answers an access of a size that no CPU makes with all ones and does not serve it', () => {
    const region = memoryRegion(new ArrayBuffer(4096));
    const slot = new IoreqSlot(region, 0, 0);
    slot.submit(IOREQ_TYPE_COPY, IOREQ_READ, 0, 0, 4, 0);
    region.u32[IOREQ.offset.size / 4] = 3;
    expect(slot.take({ ...NOTHING })).toBe(false);
    expect(slot.isAnswered()).toBe(true);
    expect(slot.takeResponse()).toBe(0xffff_ffff);
  });

  it('keeps the data of a write out of the answer', () => {
    const slot = new IoreqSlot(memoryRegion(new ArrayBuffer(4096)), 0, 0);
    const access = { ...NOTHING };
    slot.submit(IOREQ_TYPE_COPY, IOREQ_WRITE, 4, 1, 2, 0xabcd);
    expect(slot.take(access)).toBe(true);
    expect([access.addressHigh, access.addressLow, access.size, access.data]).toEqual([1, 4, 2, 0xabcd]);
    slot.answer(IOREQ_WRITE, 0xffff_ffff);
    expect(slot.takeResponse()).toBe(0xabcd);
  });

  it('carries 8 bytes there and back', () => {
    const slot = new IoreqSlot(memoryRegion(new ArrayBuffer(4096)), 0, 0);
    const access = { ...NOTHING };
    slot.submit(IOREQ_TYPE_COPY, IOREQ_WRITE, 8, 0, 8, 0x5566_7788, 0x1122_3344);
    expect(slot.take(access)).toBe(true);
    expect([access.size, access.data, access.dataHigh]).toEqual([8, 0x5566_7788, 0x1122_3344]);
    slot.answer(IOREQ_WRITE, 0);
    slot.takeResponse();
    slot.submit(IOREQ_TYPE_COPY, IOREQ_READ, 8, 0, 8, 0);
    expect(slot.take(access)).toBe(true);
    slot.answer(IOREQ_READ, 1, 0xffff_ffff);
    expect([slot.responseHigh, slot.takeResponse()]).toEqual([0xffff_ffff, 1]);
  });
});
