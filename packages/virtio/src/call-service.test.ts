import { describe, expect, it } from 'vitest';
import {
  createBufferList,
  createDeviceQueue,
  createDriverQueue,
  type DeviceQueue,
  type DriverQueue,
} from '@virtlab/vring';
import { CallService } from './call-service.ts';
import { identityMemory } from './conformance/memory-bench.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';

interface Watched {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  readonly service: CallService;
  readonly loops: SimulatedLoops;
  readonly popped: number[];
}

/** A queue with three requests in flight and a handler that pops; polled only when the test says so. */
function watch(eventIdx: boolean): Watched {
  const loops = new SimulatedLoops(1);
  const lent = identityMemory();
  const features = { indirect: false, eventIdx };
  const driver = createDriverQueue({ size: 8, dma: lent.dma, features });
  const made = createDeviceQueue({ addresses: driver.addresses, memory: lent.deviceMemory, features });
  if (!made.ok) throw new Error(made.violation.message);
  const popped: number[] = [];
  const service = new CallService(loops.driverAio, [driver], false, () => popped.push(-1));
  service.setHandler(0, () => {
    for (let token = driver.popUsed(); token >= 0; token = driver.popUsed()) popped.push(token);
  });
  const buffers = createBufferList();
  buffers.addWritable(lent.dma.allocate(64), 64);
  for (let token = 0; token < 3; token += 1) driver.add(buffers, token);
  driver.publish();
  return { driver, device: made.queue, service, loops, popped };
}

/** The device answers the next request; whether it would call. */
function answer(device: DeviceQueue): boolean {
  device.push(device.pop()!, 0);
  return device.needsCall();
}

describe.each([false, true])('CallService, event index %s', (eventIdx) => {
  it('no call is asked for while polling, and what came meanwhile is found by it', () => {
    const { device, service, popped } = watch(eventIdx);
    service.called(0);
    service.begin();
    expect(service.poll()).toBe(false);
    expect(answer(device)).toBe(false);
    expect(service.poll()).toBe(true);
    expect(popped).toEqual([0]);
    expect(service.end()).toBe(false);
    expect(answer(device), 'calls are asked for again').toBe(true);
  });

  it('what came between the last look and the end of polling keeps the loop awake', () => {
    const { device, service } = watch(eventIdx);
    service.begin();
    expect(service.poll()).toBe(false);
    answer(device);
    expect(service.end()).toBe(true);
  });

  it('what comes while the handler runs is popped without another call', () => {
    const { driver, device, service, popped } = watch(eventIdx);
    const duringHandler: boolean[] = [];
    service.setHandler(0, () => {
      for (let token = driver.popUsed(); token >= 0; token = driver.popUsed()) popped.push(token);
      if (duringHandler.length === 0) duringHandler.push(answer(device));
    });
    answer(device);
    service.called(0);
    expect(popped).toEqual([0, 1]);
    expect(duringHandler, 'calls are off').toEqual([false]);
    expect(service.statistics[0]).toMatchObject({ calls: 1 });
    expect(answer(device), 'calls are on').toBe(true);
  });

  it('a queue without a handler is left as its driver set it', () => {
    const { driver, device, service } = watch(eventIdx);
    service.setHandler(0, undefined);
    driver.disableCalls();
    service.begin();
    service.end();
    expect(answer(device)).toBe(false);
  });

  it('a handler that is set finds what is there already', async () => {
    const { driver, device, service, loops, popped } = watch(eventIdx);
    service.setHandler(0, undefined);
    answer(device);
    service.setHandler(0, () => {
      popped.push(driver.popUsed());
    });
    await loops.settle();
    expect(popped[0]).toBe(0);
  });
});
