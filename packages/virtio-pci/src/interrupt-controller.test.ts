import { describe, expect, it } from 'vitest';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import { createInterruptController } from './interrupt-controller.ts';

function controllerWith(vectorCountMax: number) {
  const loops = new SimulatedLoops(3);
  return { loops, controller: createInterruptController(loops.driverAio, { vectorCountMax }) };
}

describe('interrupt controller: vectors', () => {
  it('a message runs the handler of its vector, in the driver’s loop, once however often it was sent', async () => {
    const { loops, controller } = controllerWith(4);
    const vectors = controller.allocateVectors(2)!;
    const runs = [0, 0];
    vectors.onVector(0, () => void runs[0]!++);
    vectors.onVector(1, () => void runs[1]!++);
    const { addressLow, addressHigh, data } = vectors.messages[1]!;
    for (let count = 0; count < 3; count++) controller.send(addressLow, addressHigh, data);
    expect(runs).toEqual([0, 0]);
    await loops.settle();
    expect(runs).toEqual([0, 1]);
    expect(controller.statistics).toMatchObject({ messageCount: 3, strayMessageCount: 0 });
  });

  it('messages to nobody and to freed vectors are dropped and counted', async () => {
    const { loops, controller } = controllerWith(4);
    const vectors = controller.allocateVectors(1)!;
    let runs = 0;
    vectors.onVector(0, () => void runs++);
    const { addressLow, data } = vectors.messages[0]!;
    controller.send(addressLow, 1, data);
    controller.send(0x1000, 0, data);
    for (const stray of [3, -1, 0.5, 2 ** 32]) controller.send(addressLow, 0, stray);
    controller.send(addressLow, 0, data);
    vectors[Symbol.dispose]();
    vectors[Symbol.dispose]();
    controller.send(addressLow, 0, data);
    await loops.settle();
    expect([runs, controller.statistics.strayMessageCount]).toEqual([0, 7]);
    expect(loops.driverAio.leaks()).toEqual([]);
  });

  it('vectors run out, and come back when freed', () => {
    const { controller } = controllerWith(4);
    const three = controller.allocateVectors(3)!;
    expect(controller.allocateVectors(2)).toBeUndefined();
    expect(controller.allocateVectors(1)!.messages).toHaveLength(1);
    three[Symbol.dispose]();
    expect(controller.allocateVectors(3)).toBeDefined();
    expect(() => three.onVector(3, undefined)).toThrow(RangeError);
  });
});

describe('interrupt controller: lines', () => {
  it('PCI §2.2.6 the handler runs while the line is up', async () => {
    const { loops, controller } = controllerWith(0);
    const line = controller.line(8);
    let runs = 0;
    controller.onLine(8, () => {
      if (++runs === 3) line.set(false);
      return true;
    });
    line.set(true);
    expect(runs).toBe(0);
    await loops.settle();
    expect(runs).toBe(3);
  });

  it('a line that was up before anybody attended is served', async () => {
    const { loops, controller } = controllerWith(0);
    controller.line(8).set(true);
    let isServed = false;
    controller.onLine(8, () => {
      isServed = true;
      controller.line(8).set(false);
      return true;
    });
    await loops.settle();
    expect(isServed).toBe(true);
  });

  it('a line whose interrupts nobody wants is shut, and the loop goes idle', async () => {
    const { loops, controller } = controllerWith(0);
    const line = controller.line(8);
    let runs = 0;
    controller.onLine(8, () => {
      runs++;
      return false;
    });
    line.set(true);
    await loops.simulation.run({ untilIdle: true });
    expect([runs, controller.statistics.shutLineCount]).toEqual([1000, 1]);
  });

  it('a function without a line, or with one that is attended, gets none', () => {
    const { loops, controller } = controllerWith(0);
    expect(controller.onLine(8, () => true)).toBeUndefined();
    controller.line(8);
    const attended = controller.onLine(8, () => true)!;
    expect(controller.onLine(8, () => true)).toBeUndefined();
    attended[Symbol.dispose]();
    attended[Symbol.dispose]();
    expect(loops.driverAio.leaks()).toEqual([]);
    expect(controller.onLine(8, () => true)).toBeDefined();
  });
});
