import { describe, expect, it } from 'vitest';
import {
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
} from '@virtlab/abi/pci';
import { DMA_FAULT_ADDRESS, DMA_OK, SegmentList } from '@virtlab/guest-memory';
import { VIRTIO_PCI_ISR_CONFIG, VIRTIO_PCI_ISR_QUEUE } from '@virtlab/abi/virtio-pci';
import {
  FunctionFixture,
  MSIX_BAR,
  NOTIFY_OFFSET,
  MODERN_BAR,
  PENDING_OFFSET,
} from './testing/function-fixture.ts';

/** Two queues on vectors 1 and 2, configuration on 0, all programmed and unmasked. */
function withMsix(): FunctionFixture {
  const fixture = new FunctionFixture().enable();
  for (let vector = 0; vector < 3; vector++) fixture.programVector(vector, 0x40 + vector);
  fixture.write('config_msix_vector', 0);
  for (const queue of [0, 1]) {
    fixture.write('queue_select', queue);
    fixture.write('queue_msix_vector', queue + 1);
  }
  fixture.setMsixFlags(PCI_MSIX_FLAGS_ENABLE);
  return fixture;
}

const dataOf = (fixture: FunctionFixture): number[] => fixture.messages.map(({ data }) => data);
const pending = (fixture: FunctionFixture): number =>
  fixture.pciFunction.barRead(MSIX_BAR, PENDING_OFFSET, 4);
const mask = (fixture: FunctionFixture, vector: number, masked: boolean): void =>
  fixture.pciFunction.barWrite(MSIX_BAR, 16 * vector + 12, 4, Number(masked));

describe('MSI-X (PCI §6.8.2, §4.1.5.3)', () => {
  it('§4.1.5.3 a call sends the message of the queue’s vector', () => {
    const fixture = withMsix();
    fixture.pciFunction.call(1);
    expect(fixture.messages).toEqual([{ addressLow: 0xfee0_0000, addressHigh: 1, data: 0x42 }]);
    expect(fixture.pciFunction.statistics.messageCount).toBe(1);
    expect(fixture.levels).toEqual([]);
  });

  it('§4.1.5.4 a configuration change sends the message of config_msix_vector', () => {
    const fixture = withMsix();
    fixture.pciFunction.configChanged();
    expect(dataOf(fixture)).toEqual([0x40]);
  });

  it('§4.1.5.1.2 NO_VECTOR sends nothing, and no line is pulled instead', () => {
    const fixture = withMsix();
    fixture.write('config_msix_vector', 0xffff);
    fixture.write('queue_msix_vector', 0xffff);
    fixture.pciFunction.call(1);
    fixture.pciFunction.configChanged();
    expect([fixture.messages, fixture.levels]).toEqual([[], []]);
  });

  it('PCI §6.8.2.9 entries are masked after reset and only the mask bit of vector control is writable', () => {
    const fixture = new FunctionFixture();
    expect(fixture.pciFunction.barRead(MSIX_BAR, 12, 4)).toBe(1);
    fixture.pciFunction.barWrite(MSIX_BAR, 12, 4, 0xffff_fffe);
    expect(fixture.pciFunction.barRead(MSIX_BAR, 12, 4)).toBe(0);
  });

  it('PCI §6.8.2.10 a masked vector becomes pending and is sent once when unmasked', () => {
    const fixture = withMsix();
    mask(fixture, 2, true);
    fixture.pciFunction.call(1);
    fixture.pciFunction.call(1);
    expect([pending(fixture), dataOf(fixture)]).toEqual([0b100, []]);
    mask(fixture, 2, false);
    expect([pending(fixture), dataOf(fixture)]).toEqual([0, [0x42]]);
    mask(fixture, 2, false);
    expect(dataOf(fixture)).toEqual([0x42]);
  });

  it('PCI §6.8.2.3 the function mask holds every vector back; ending it sends those that are not masked themselves', () => {
    const fixture = withMsix();
    fixture.setMsixFlags(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    mask(fixture, 1, true);
    fixture.pciFunction.configChanged();
    fixture.pciFunction.call(0);
    fixture.pciFunction.call(1);
    expect([pending(fixture), dataOf(fixture)]).toEqual([0b111, []]);
    fixture.setMsixFlags(PCI_MSIX_FLAGS_ENABLE);
    expect([pending(fixture), dataOf(fixture)]).toEqual([0b010, [0x40, 0x42]]);
  });

  it('PCI §6.8.2.10 pending bits are read-only', () => {
    const fixture = withMsix();
    fixture.pciFunction.barWrite(MSIX_BAR, PENDING_OFFSET, 4, 0xff);
    expect(pending(fixture)).toBe(0);
  });

  it('PCI §6.2.2 without bus mastering a message waits', () => {
    const fixture = withMsix();
    fixture.pciFunction.configWrite(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    fixture.pciFunction.call(0);
    expect([pending(fixture), dataOf(fixture)]).toEqual([0b010, []]);
    fixture.enable();
    expect(dataOf(fixture)).toEqual([0x41]);
  });

  it('§2.1 a reset forgets what was pending', () => {
    const fixture = withMsix();
    mask(fixture, 1, true);
    fixture.pciFunction.call(0);
    fixture.write('device_status', 0);
    mask(fixture, 1, false);
    expect(dataOf(fixture)).toEqual([]);
  });

  it('PCI §6.8.2 only aligned double words access table and pending bits', () => {
    const { pciFunction } = withMsix();
    for (const [offset, width] of [
      [0, 1],
      [0, 2],
      [2, 4],
      [PENDING_OFFSET, 1],
      [PENDING_OFFSET + 1, 4],
    ] as const) {
      expect(pciFunction.barRead(MSIX_BAR, offset, width)).toBe(2 ** (8 * width) - 1);
    }
    pciFunction.barWrite(MSIX_BAR, 8, 2, 0x9999);
    expect(pciFunction.barRead(MSIX_BAR, 8, 4)).toBe(0x40);
    expect(pciFunction.barRead(MSIX_BAR, 3 * 16, 4)).toBe(0xffff_ffff);
  });
});

describe('ISR status and INTx (§4.1.4.5)', () => {
  it('§4.1.4.5.1 a call sets bit 0 and raises the line; reading clears and lowers it', () => {
    const fixture = new FunctionFixture().enable();
    fixture.pciFunction.call(0);
    expect(fixture.levels).toEqual([true]);
    expect(fixture.readIsr()).toBe(VIRTIO_PCI_ISR_QUEUE);
    expect(fixture.levels).toEqual([true, false]);
    expect(fixture.readIsr()).toBe(0);
  });

  it('§4.1.4.5.1 a configuration change sets bit 1; both coalesce into one rise', () => {
    const fixture = new FunctionFixture().enable();
    fixture.pciFunction.configChanged();
    fixture.pciFunction.call(1);
    fixture.pciFunction.call(0);
    expect(fixture.levels).toEqual([true]);
    expect(fixture.pciFunction.statistics.intxCount).toBe(1);
    expect(fixture.readIsr()).toBe(VIRTIO_PCI_ISR_QUEUE | VIRTIO_PCI_ISR_CONFIG);
  });

  it('§4.1.4.5.1 PCI status shows the OR of the ISR bits, whether INTx is disabled or not', () => {
    const fixture = new FunctionFixture().enable(PCI_COMMAND_INTX_DISABLE);
    const isWanted = (): boolean =>
      (fixture.pciFunction.configRead(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT) !== 0;
    fixture.pciFunction.call(0);
    expect([isWanted(), fixture.levels]).toEqual([true, []]);
    fixture.enable();
    expect(fixture.levels).toEqual([true]);
    fixture.readIsr();
    expect(isWanted()).toBe(false);
  });

  it('§4.1.4.5.1 with MSI-X enabled the configuration bit is set and the queue bit is not', () => {
    const fixture = withMsix();
    fixture.pciFunction.call(0);
    expect(fixture.readIsr()).toBe(0);
    fixture.pciFunction.configChanged();
    expect(fixture.readIsr()).toBe(VIRTIO_PCI_ISR_CONFIG);
    expect(fixture.levels).toEqual([]);
  });

  it('PCI §6.8.3.3 enabling MSI-X lowers the line', () => {
    const fixture = new FunctionFixture().enable();
    fixture.pciFunction.call(0);
    fixture.setMsixFlags(PCI_MSIX_FLAGS_ENABLE);
    expect(fixture.levels).toEqual([true, false]);
  });

  it('§4.1.4.5.1 a reset clears the ISR and lowers the line', () => {
    const fixture = new FunctionFixture().enable();
    fixture.pciFunction.call(0);
    fixture.write('device_status', 0);
    expect([fixture.levels, fixture.readIsr()]).toEqual([[true, false], 0]);
  });
});

describe('kicks (§4.1.4.4, §4.1.5.2)', () => {
  it('§4.1.5.2 a 16-bit write at a queue’s address kicks it', () => {
    const fixture = new FunctionFixture().enable();
    fixture.kick(1);
    fixture.kick(0);
    expect(fixture.model.kicks).toEqual([1, 0]);
    expect(fixture.pciFunction.statistics.kickCount).toBe(2);
  });

  it('§4.1.4.4 kicks of queues that do not exist, misaligned, or of another width are ignored', () => {
    const fixture = new FunctionFixture().enable();
    fixture.kick(2);
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET + 2, 2, 0);
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET, 1, 0);
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET, 4, 0);
    expect(fixture.model.kicks).toEqual([]);
  });

  it('PCI §6.2.2 kicks before bus mastering are held and delivered when it is allowed', () => {
    const fixture = new FunctionFixture();
    fixture.write('queue_enable', 1);
    fixture.kick(0);
    expect(fixture.model.kicks).toEqual([]);
    fixture.pciFunction.configWrite(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    expect(fixture.model.kicks).toEqual([0]);
  });

  it('PCI §6.2.2 the driver’s memory cannot be mapped without bus mastering', () => {
    const { pciFunction } = new FunctionFixture();
    const map = (): number[] => [
      pciFunction.memory.map(0, 0, 16, true, new SegmentList()),
      Number(pciFunction.memory.mapArea(0n, 16, 16, true)),
    ];
    expect(map()).toEqual([DMA_FAULT_ADDRESS, DMA_FAULT_ADDRESS]);
    pciFunction.configWrite(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    expect(map()).toEqual([DMA_OK, DMA_OK]);
    pciFunction.configWrite(PCI_COMMAND, 2, 0);
    expect(map()).toEqual([DMA_FAULT_ADDRESS, DMA_FAULT_ADDRESS]);
  });

  it('a doorbell kicks like a write, until the function is disposed', () => {
    const rings: (() => void)[] = [];
    let withdrawn = 0;
    const fixture = new FunctionFixture({
      doorbells: {
        register: (address, onRing) => {
          expect(address).toEqual({
            bar: 4,
            offset: 0x3000 + 4 * rings.length,
            size: 2,
            queue: rings.length,
          });
          rings.push(onRing);
          return { [Symbol.dispose]: () => void withdrawn++ };
        },
      },
    }).enable();
    rings[1]!();
    expect(fixture.model.kicks).toEqual([1]);
    fixture.pciFunction[Symbol.dispose]();
    expect(withdrawn).toBe(2);
  });
});
