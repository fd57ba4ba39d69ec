import { describe, expect, it } from 'vitest';
import { createBufferList, createDeviceQueue, createDriverQueue, type DriverQueue } from '@virtlab/vring';
import { identityMemory } from './conformance/memory-bench.ts';
import { ECHO_QUEUE, ProbeDevice, RECEIVE_QUEUE } from './conformance/probe-device.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';
import { Activation } from './activation.ts';
import { QueueService } from './queue-service.ts';

interface Served {
  readonly device: ProbeDevice;
  readonly service: QueueService;
  readonly rings: readonly DriverQueue[];
  readonly loops: SimulatedLoops;
}

/** A live probe device whose queues a test drives by hand; polled only when the test says so. */
function serve(eventIdx: boolean): Served {
  const loops = new SimulatedLoops(1);
  const lent = identityMemory();
  const device = new ProbeDevice();
  const events = { onViolation: () => undefined, onError: () => undefined };
  const service = new QueueService(device, loops.deviceAio, false, events);
  const features = { indirect: false, eventIdx };
  const rings = [ECHO_QUEUE, RECEIVE_QUEUE].map((index) => {
    const ring = createDriverQueue({ size: 8, dma: lent.dma, features });
    const made = createDeviceQueue({ addresses: ring.addresses, memory: lent.deviceMemory, features });
    if (!made.ok) throw new Error(made.violation.message);
    service.setQueue(index, made.queue);
    return ring;
  });
  const hooks = { configChanged: () => undefined, fail: () => undefined };
  device.activate(new Activation(0n, loops.deviceAio, service, hooks));
  service.start(() => undefined);
  const offset = lent.dma.allocate(4096);
  for (const ring of rings) {
    const buffers = createBufferList();
    buffers.addWritable(offset, 64);
    ring.add(buffers, 0);
  }
  return { device, service, rings, loops };
}

describe.each([false, true])('QueueService, event index %s', (eventIdx) => {
  it('polling finds work, and finds none in buffers that the device left alone', () => {
    const { device, service, rings } = serve(eventIdx);
    service.begin();
    expect(service.poll()).toBe(false);
    for (const ring of rings) ring.publish();
    expect(service.poll()).toBe(true);
    expect(device.takenCount).toBe(1);
    expect(service.poll()).toBe(false);
    expect(service.end(), 'a receive buffer does not keep the loop awake').toBe(false);
    expect(device.deliver(Uint8Array.of(1))).toBe(true);
    expect(service.statistics[RECEIVE_QUEUE]).toMatchObject({ requests: 1, kicks: 0 });
    expect(service.statistics[ECHO_QUEUE]).toMatchObject({ requests: 1, kicks: 0, polls: 1 });
  });

  it('no kick is asked for while polling, and what came meanwhile is found at its end', () => {
    const { device, service, rings } = serve(eventIdx);
    const ring = rings[ECHO_QUEUE]!;
    service.kick(ECHO_QUEUE);
    service.begin();
    expect(ring.needsKick()).toBe(false);
    expect(service.end()).toBe(true);
    service.kick(ECHO_QUEUE);
    expect(device.takenCount).toBe(1);
  });

  it('a kick for buffers that the device leaves alone does not keep the loop awake either', async () => {
    const { device, service, rings, loops } = serve(eventIdx);
    await loops.settle();
    let roundCount = 0;
    const processQueue = device.processQueue.bind(device);
    device.processQueue = (queue) => {
      roundCount += 1;
      processQueue(queue);
    };
    rings[RECEIVE_QUEUE]!.publish();
    service.kick(RECEIVE_QUEUE);
    await loops.settle();
    expect(roundCount).toBe(2);
  });

  it('after a stop the device gets nothing more out of any queue', () => {
    const { device, service, rings } = serve(eventIdx);
    for (const ring of rings) ring.publish();
    service.stop();
    service.kick(ECHO_QUEUE);
    expect(service.poll()).toBe(false);
    expect(device.deliver(Uint8Array.of(1))).toBe(false);
    device.processQueue(ECHO_QUEUE);
    expect(device.takenCount).toBe(0);
    expect(rings.map((ring) => ring.hasUsed())).toEqual([false, false]);
  });
});
