import { createBufferList, createDriverQueue } from '@virtlab/vring';
import { ringFeatures, type DeviceQueue } from '@virtlab/vring';
import { describe, expect, it } from 'vitest';
import { identityMemory } from './conformance/memory-bench.ts';
import { DEFERRED_QUEUE, ECHO_QUEUE, ProbeDevice } from './conformance/probe-device.ts';
import {
  BASE_FEATURES,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
} from './conformance/raw-driver.ts';
import { DeviceHost } from './device-host.ts';
import { runUntilDone } from './testing/run-until.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';

function bench(queueStart = true) {
  const loops = new SimulatedLoops(1);
  const lent = identityMemory();
  const device = new ProbeDevice();
  const host = new DeviceHost({ device, aio: loops.deviceAio, polling: false });
  const calls: number[] = [];
  host.attach({
    capabilities: { name: 'test', queueReset: false, configWrite: true, callPerQueue: true, queueStart },
    transportFeatures: 0n,
    memory: lent.deviceMemory,
    call: (queue) => calls.push(queue),
    configChanged: () => {},
    statusChanged: () => {},
  });
  const driver = createDriverQueue({ size: 8, dma: lent.dma, features: ringFeatures(BASE_FEATURES) });
  const at = lent.dma.allocate(32);
  const send = (token: number): void => {
    const list = createBufferList();
    list.addReadable(at, 8);
    list.addWritable(at + 8, 8);
    driver.add(list, token);
    driver.publish();
  };
  host.writeStatus(STATUS_DRIVER);
  host.writeDriverFeatures(host.deviceFeatures & BASE_FEATURES);
  host.writeStatus(STATUS_FEATURES_OK);
  const end = (): readonly string[] => {
    host[Symbol.dispose]();
    driver.release();
    lent.dma.free(at, 32);
    return [...lent.leaks(), ...loops.deviceAio.leaks()];
  };
  return { loops, device, host, driver, calls, send, end };
}

describe('queues that a transport starts and stops one by one', () => {
  it('may be enabled on a live device, only where the transport says so', async () => {
    const { loops, host, driver, send, calls, end } = bench();
    host.writeStatus(STATUS_DRIVER_OK);
    send(1);
    expect(host.enableQueue(ECHO_QUEUE, driver.addresses)).toBe(true);
    await loops.settle();
    expect([driver.popUsed(), calls]).toEqual([1, [ECHO_QUEUE]]);
    expect(end()).toEqual([]);
    const other = bench(false);
    other.host.writeStatus(STATUS_DRIVER_OK);
    expect(other.host.enableQueue(ECHO_QUEUE, other.driver.addresses)).toBe(false);
    expect(other.end()).toEqual([]);
  });

  it('stop when the device has finished what it took; then go on from there', async () => {
    const { loops, device, host, driver, send, calls, end } = bench();
    host.enableQueue(DEFERRED_QUEUE, driver.addresses);
    host.writeStatus(STATUS_DRIVER_OK);
    send(1);
    await loops.settle();
    expect(device.deferredCount).toBe(1);
    const stopping = host.stopQueue(DEFERRED_QUEUE)!;
    send(2);
    host.kick(DEFERRED_QUEUE);
    await loops.settle();
    expect([device.deferredCount, host.isQueueEnabled(DEFERRED_QUEUE)]).toEqual([1, true]);
    device.completeDeferred();
    const position = await runUntilDone(loops, stopping);
    expect(position).toEqual({ available: 1, used: 1 });
    expect(calls).toEqual([DEFERRED_QUEUE]);
    expect(host.isQueueEnabled(DEFERRED_QUEUE)).toBe(false);
    expect(host.stopQueue(DEFERRED_QUEUE)).toBeUndefined();
    host.enableQueue(DEFERRED_QUEUE, driver.addresses, { start: position });
    await loops.settle();
    expect(device.deferredCount).toBe(1);
    device.completeDeferred();
    expect([driver.popUsed(), driver.popUsed()]).toEqual([1, 2]);
    expect(end()).toEqual([]);
  });

  it('give up in time what the device does not finish, to be taken again', async () => {
    const { loops, device, host, driver, send, end } = bench();
    host.enableQueue(DEFERRED_QUEUE, driver.addresses);
    host.writeStatus(STATUS_DRIVER_OK);
    send(1);
    await loops.settle();
    const position = await runUntilDone(loops, host.stopQueue(DEFERRED_QUEUE, { timeoutMs: 10 })!);
    expect(position).toEqual({ available: 0, used: 0 });
    expect(device.deferredCount).toBe(0);
    expect(end()).toEqual([]);
  });

  it('a reset of the device, or a broken ring, ends the wait', async () => {
    for (const endIt of [
      (b: ReturnType<typeof bench>) => b.host.writeStatus(0),
      (b: ReturnType<typeof bench>) => b.device.fail('x'),
    ]) {
      const made = bench();
      made.host.enableQueue(DEFERRED_QUEUE, made.driver.addresses);
      made.host.writeStatus(STATUS_DRIVER_OK);
      made.send(1);
      await made.loops.settle();
      const stopping = made.host.stopQueue(DEFERRED_QUEUE)!;
      endIt(made);
      await runUntilDone(made.loops, stopping);
      expect(made.end()).toEqual([]);
    }
  });

  it('a wrapped queue is what the device gets', async () => {
    const { loops, host, driver, send, end } = bench();
    const pops: number[] = [];
    const wrap = (queue: DeviceQueue): DeviceQueue => ({
      ...bindAll(queue),
      get violation() {
        return queue.violation;
      },
      get inFlightCount() {
        return queue.inFlightCount;
      },
      size: queue.size,
      pop() {
        const chain = queue.pop();
        if (chain !== undefined) pops.push(chain.head);
        return chain;
      },
    });
    host.enableQueue(ECHO_QUEUE, driver.addresses, { wrap });
    host.writeStatus(STATUS_DRIVER_OK);
    send(1);
    host.kick(ECHO_QUEUE);
    await loops.settle();
    expect([driver.popUsed(), pops]).toEqual([1, [0]]);
    expect(end()).toEqual([]);
  });
});

function bindAll(queue: DeviceQueue) {
  return {
    hasAvailable: () => queue.hasAvailable(),
    undoPop: (chain: Parameters<DeviceQueue['undoPop']>[0]) => queue.undoPop(chain),
    push: (chain: Parameters<DeviceQueue['push']>[0], size: number) => queue.push(chain, size),
    publish: () => queue.publish(),
    needsCall: () => queue.needsCall(),
    disableKicks: () => queue.disableKicks(),
    enableKicks: () => queue.enableKicks(),
    position: () => queue.position(),
    release: () => queue.release(),
    snapshot: () => queue.snapshot(),
  };
}
