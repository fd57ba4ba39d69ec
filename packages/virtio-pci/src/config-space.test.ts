import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  PCI_CAPABILITY_LIST,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_CFG_SPACE_SIZE,
  PCI_CLASS_DEVICE,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_HEADER,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
} from '@virtlab/abi/pci';
import * as virtio from '@virtlab/abi/virtio';
import { barOffset } from './config-space.ts';
import type { AccessWidth } from './pci-function.ts';
import {
  DEVICE_OFFSET,
  FunctionFixture,
  MODERN_BAR,
  MSIX_BAR,
  NOTIFY_OFFSET,
  WINDOW_CAPABILITY,
} from './testing/function-fixture.ts';
import { RecordingModel } from './testing/recording-model.ts';

function bytes(fixture: FunctionFixture, offset: number, size: number): string {
  const values = Array.from({ length: size }, (_, at) => fixture.pciFunction.configRead(offset + at, 1));
  return values.map((value) => value.toString(16).padStart(2, '0')).join(' ');
}

function capabilityList(fixture: FunctionFixture): { at: number; id: number }[] {
  const list: { at: number; id: number }[] = [];
  let at = fixture.pciFunction.configRead(PCI_CAPABILITY_LIST, 1);
  while (at !== 0) {
    list.push({ at, id: fixture.pciFunction.configRead(at, 1) });
    at = fixture.pciFunction.configRead(at + 1, 1);
  }
  return list;
}

describe('configuration space: header (§4.1.2)', () => {
  it('§4.1.2.1 ids, revision 1, class, subsystem at or above 0x40, INTA#', () => {
    const fixture = new FunctionFixture();
    const view = new DataView(new ArrayBuffer(PCI_HEADER.size));
    for (let at = 0; at < PCI_HEADER.size; at++) view.setUint8(at, fixture.pciFunction.configRead(at, 1));
    expect(PCI_HEADER.read(view, 0)).toMatchObject({
      vendor_id: 0x1af4,
      device_id: 0x1044,
      revision_id: 1,
      class_device: 0x00ff,
      subsystem_vendor_id: 0x1af4,
      subsystem_id: 0x44,
      header_type: 0,
      interrupt_pin: 1,
      command: 0,
      status: PCI_STATUS_CAP_LIST,
    });
  });

  it.each([
    [virtio.VIRTIO_ID_NET, 0x0200],
    [virtio.VIRTIO_ID_BLOCK, 0x0100],
    [virtio.VIRTIO_ID_CONSOLE, 0x0780],
    [virtio.VIRTIO_ID_RNG, 0x00ff],
    [virtio.VIRTIO_ID_GPU, 0x0380],
    [virtio.VIRTIO_ID_FS, 0x0180],
  ])('§4.1.2 device type %i has the class of its kind', (deviceType, classCode) => {
    const model = new RecordingModel();
    model.deviceType = deviceType;
    expect(new FunctionFixture({ model }).pciFunction.configRead(PCI_CLASS_DEVICE, 2)).toBe(classCode);
  });

  it('PCI §6.2.4 a function without a line says so in the interrupt pin', () => {
    expect(new FunctionFixture({ withoutIntx: true }).pciFunction.configRead(0x3d, 1)).toBe(0);
  });

  it('PCI §6.2.2 I/O space and reserved command bits stay off', () => {
    const fixture = new FunctionFixture();
    fixture.pciFunction.configWrite(PCI_COMMAND, 2, 0xffff);
    expect(fixture.pciFunction.configRead(PCI_COMMAND, 2)).toBe(0x0546);
    expect(fixture.pciFunction.configRead(PCI_COMMAND, 2) & PCI_COMMAND_IO).toBe(0);
  });

  it('PCI §6.1 ids and status are read-only', () => {
    const fixture = new FunctionFixture();
    const before = bytes(fixture, 0, 4);
    fixture.pciFunction.configWrite(0, 4, 0);
    fixture.pciFunction.configWrite(PCI_STATUS, 2, 0xffff);
    expect(bytes(fixture, 0, 4)).toBe(before);
    expect(fixture.pciFunction.configRead(PCI_STATUS, 2)).toBe(PCI_STATUS_CAP_LIST);
  });
});

describe('configuration space: BARs (PCI §6.2.5.1)', () => {
  it('PCI §6.2.5.1 all ones read back as the size: BAR 1 4 KiB of 32 bits, BAR 4 16 KiB of 64', () => {
    const { pciFunction } = new FunctionFixture();
    for (let bar = 0; bar < 6; bar++) pciFunction.configWrite(barOffset(bar), 4, 0xffff_ffff);
    const masks = Array.from({ length: 6 }, (_, bar) => pciFunction.configRead(barOffset(bar), 4));
    expect(masks).toEqual([0, 0xffff_f000, 0, 0, 0xffff_c00c, 0xffff_ffff]);
    expect(pciFunction.bars).toEqual([
      { index: MSIX_BAR, size: 0x1000, is64Bit: false },
      { index: MODERN_BAR, size: 0x4000, is64Bit: true },
    ]);
  });

  it('PCI §6.2.5.1 an address written in bytes or words keeps the type bits', () => {
    const { pciFunction } = new FunctionFixture();
    pciFunction.configWrite(barOffset(4), 1, 0xff);
    pciFunction.configWrite(barOffset(4) + 2, 2, 0xfe00);
    pciFunction.configWrite(barOffset(5), 1, 0x12);
    expect(pciFunction.configRead(barOffset(4), 4)).toBe(0xfe00_000c);
    expect(pciFunction.configRead(barOffset(5), 4)).toBe(0x12);
  });

  it('many queues and vectors grow notify structure and BARs to powers of two', () => {
    const model = new RecordingModel();
    model.queueSizes = Array.from({ length: 1500 }, () => 2);
    const { pciFunction } = new FunctionFixture({ model, vectorCount: 1501 });
    expect(pciFunction.bars.map(({ size }) => size)).toEqual([0x8000, 0x8000]);
    expect(pciFunction.notifyAddresses().at(-1)).toEqual({
      bar: 4,
      offset: 0x3000 + 1499 * 4,
      size: 2,
      queue: 1499,
    });
  });
});

describe('configuration space: capabilities (§4.1.4)', () => {
  it('§4.1.4 the list holds five virtio capabilities and MSI-X, where QEMU has them', () => {
    expect(capabilityList(new FunctionFixture())).toEqual([
      { at: 0x98, id: PCI_CAP_ID_MSIX },
      { at: 0x84, id: PCI_CAP_ID_VNDR },
      { at: 0x70, id: PCI_CAP_ID_VNDR },
      { at: 0x60, id: PCI_CAP_ID_VNDR },
      { at: 0x50, id: PCI_CAP_ID_VNDR },
      { at: 0x40, id: PCI_CAP_ID_VNDR },
    ]);
  });

  it.each([
    ['§4.1.4.3 common configuration', 0x40, '09 00 10 01 04 00 00 00 00 00 00 00 00 10 00 00'],
    ['§4.1.4.5 ISR status', 0x50, '09 40 10 03 04 00 00 00 00 10 00 00 00 10 00 00'],
    ['§4.1.4.6 device configuration', 0x60, '09 50 10 04 04 00 00 00 00 20 00 00 00 10 00 00'],
    [
      '§4.1.4.4 notification, multiplier 4',
      0x70,
      '09 60 14 02 04 00 00 00 00 30 00 00 00 10 00 00 04 00 00 00',
    ],
    ['§4.1.4.9 window', 0x84, '09 70 14 05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00'],
    [
      'PCI §6.8.2 MSI-X: 3 vectors, table and pending bits in BAR 1',
      0x98,
      '11 84 02 00 01 00 00 00 01 08 00 00',
    ],
  ])('golden bytes: %s', (_name, at, golden) => {
    expect(bytes(new FunctionFixture(), at, golden.split(' ').length)).toBe(golden);
  });

  it('§4.1.4 capabilities are read-only, but for the window and the MSI-X control bits', () => {
    const fixture = new FunctionFixture();
    for (let at = 0x40; at < PCI_CFG_SPACE_SIZE; at += 4) fixture.pciFunction.configWrite(at, 4, 0xffff_ffff);
    expect(bytes(fixture, 0x40, 16)).toBe('09 00 10 01 04 00 00 00 00 00 00 00 00 10 00 00');
    expect(bytes(fixture, 0x84, 16)).toBe('09 70 14 05 ff 00 00 00 ff ff ff ff ff ff ff ff');
    expect(bytes(fixture, 0x98, 12)).toBe('11 84 02 c0 01 00 00 00 01 08 00 00');
  });
});

function aim(fixture: FunctionFixture, bar: number, offset: number, length: number): void {
  fixture.pciFunction.configWrite(WINDOW_CAPABILITY + 4, 1, bar);
  fixture.pciFunction.configWrite(WINDOW_CAPABILITY + 8, 4, offset);
  fixture.pciFunction.configWrite(WINDOW_CAPABILITY + 12, 4, length);
}

describe('configuration space: PCI_CFG window (§4.1.4.9)', () => {
  const DATA = WINDOW_CAPABILITY + 16;

  it('§4.1.4.9.1 a read of pci_cfg_data reads the BAR with the width in cap.length', () => {
    const fixture = new FunctionFixture();
    aim(fixture, MODERN_BAR, 18, 2);
    expect(fixture.pciFunction.configRead(DATA, 4)).toBe(2);
    aim(fixture, MODERN_BAR, 24, 2);
    expect(fixture.pciFunction.configRead(DATA, 2)).toBe(256);
  });

  it('§4.1.4.9.1 a write to pci_cfg_data writes the BAR, though its memory is neither placed nor enabled', () => {
    const fixture = new FunctionFixture();
    aim(fixture, MODERN_BAR, 20, 1);
    fixture.pciFunction.configWrite(DATA, 1, 3);
    aim(fixture, MODERN_BAR, DEVICE_OFFSET + 4, 4);
    fixture.pciFunction.configWrite(DATA, 4, 0x0403_0201);
    expect(fixture.model.statusWrites).toEqual([3]);
    expect(fixture.model.configWrites).toEqual([{ offset: 4, bytes: [1, 2, 3, 4] }]);
  });

  it('§4.1.4.9 a kick through the window reaches the device', () => {
    const fixture = new FunctionFixture().enable();
    aim(fixture, MODERN_BAR, NOTIFY_OFFSET + 4, 2);
    fixture.pciFunction.configWrite(DATA, 2, 1);
    expect(fixture.model.kicks).toEqual([1]);
  });

  it.each([
    ['length 0', MODERN_BAR, 20, 0],
    ['length 3', MODERN_BAR, 20, 3],
    ['length 8', MODERN_BAR, 32, 8],
    ['a misaligned offset', MODERN_BAR, DEVICE_OFFSET + 2, 4],
    ['a BAR that is not there', 5, 20, 1],
    ['BAR 255', 255, 20, 1],
    ['an offset beyond the BAR', MODERN_BAR, 0xffff_fffc, 4],
  ])('§4.1.4.9.2 %s is no access', (_name, bar, offset, length) => {
    const fixture = new FunctionFixture();
    aim(fixture, bar, offset, length);
    fixture.pciFunction.configWrite(DATA, 4, 0x0101_0101);
    fixture.pciFunction.configRead(DATA, 4);
    expect([fixture.model.statusWrites, fixture.model.configWrites]).toEqual([[], []]);
  });
});

describe('configuration space: total for every access', () => {
  it('offsets outside read all ones and write nothing', () => {
    const { pciFunction } = new FunctionFixture();
    for (const [offset, width] of [
      [256, 1],
      [255, 2],
      [254, 4],
      [4096, 4],
      [-1, 1],
      [-4, 4],
    ] as const) {
      expect(pciFunction.configRead(offset, width)).toBe(2 ** (8 * width) - 1);
      pciFunction.configWrite(offset, width, 0);
    }
  });

  it('any sequence of accesses neither throws nor yields a value outside its width', () => {
    const width = fc.constantFrom<AccessWidth>(1, 2, 4);
    const access = fc.record({
      space: fc.constantFrom('config', 0, 1, 2, 3, 4, 5, 6),
      isWrite: fc.boolean(),
      offset: fc.oneof(
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: 0, max: 0x4100 }),
        fc.maxSafeNat(),
      ),
      width,
      value: fc.integer({ min: 0, max: 0xffff_ffff }),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 200 }), (accesses) => {
        const { pciFunction } = new FunctionFixture();
        for (const { space, isWrite, offset, width: size, value } of accesses) {
          if (isWrite && space === 'config') pciFunction.configWrite(offset, size, value % 2 ** (8 * size));
          else if (isWrite) pciFunction.barWrite(Number(space), offset, size, value % 2 ** (8 * size));
          const result =
            space === 'config'
              ? pciFunction.configRead(offset, size)
              : pciFunction.barRead(Number(space), offset, size);
          expect(Number.isInteger(result) && result >= 0 && result < 2 ** (8 * size)).toBe(true);
        }
      }),
    );
  });
});
