import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { createBufferList, createDriverQueue } from '@virtlab/vring';
import { type DescriptorChain, type DeviceQueue, ringFeatures } from '@virtlab/vring';
import { describe, expect, it } from 'vitest';
import { identityMemory } from './conformance/memory-bench.ts';
import { DEFERRED_QUEUE, ECHO_QUEUE, ProbeDevice } from './conformance/probe-device.ts';
import {
  BASE_FEATURES,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
} from './conformance/raw-driver.ts';
import type { DeviceActivation, VirtioDevice } from './contract.ts';
import { DeviceHost } from './device-host.ts';
import { ALL_RING_FEATURES } from './features.ts';
import { runUntilDone } from './testing/run-until.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';

function bench(queueStart = true) {
  return benchOf(new ProbeDevice(), queueStart);
}

function benchOf<Device extends VirtioDevice>(
  device: Device,
  queueStart = true,
  features = BASE_FEATURES,
  polling = false,
) {
  const loops = new SimulatedLoops(1);
  const lent = identityMemory();
  const host = new DeviceHost({ device, aio: loops.deviceAio, polling });
  const calls: number[] = [];
  host.attach({
    capabilities: { name: 'test', queueReset: false, configWrite: true, callPerQueue: true, queueStart },
    transportFeatures: 0n,
    memory: lent.deviceMemory,
    call: (queue) => calls.push(queue),
    configChanged: () => {},
    statusChanged: () => {},
  });
  const driver = createDriverQueue({ size: 8, dma: lent.dma, features: ringFeatures(features) });
  const at = lent.dma.allocate(32);
  const send = (token: number): void => {
    const list = createBufferList();
    list.addReadable(at, 8);
    list.addWritable(at + 8, 8);
    driver.add(list, token);
    driver.publish();
  };
  host.writeStatus(STATUS_DRIVER);
  host.writeDriverFeatures(host.deviceFeatures & features);
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
    const left = await runUntilDone(loops, stopping);
    expect(left).toEqual({ start: { available: 1, used: 1 }, takenChains: [] });
    expect(calls).toEqual([DEFERRED_QUEUE]);
    expect(host.isQueueEnabled(DEFERRED_QUEUE)).toBe(false);
    expect(host.stopQueue(DEFERRED_QUEUE)).toBeUndefined();
    host.enableQueue(DEFERRED_QUEUE, driver.addresses, left);
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
    const left = await runUntilDone(loops, host.stopQueue(DEFERRED_QUEUE, { timeoutMs: 10 })!);
    expect(left).toEqual({ start: { available: 0, used: 0 }, takenChains: [] });
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

/** Takes what comes, and leaves everything else to the test. */
class LooseDevice implements VirtioDevice {
  readonly deviceType = 63;
  readonly features = ALL_RING_FEATURES;
  readonly queueSizesMax = [8];
  readonly configSize = 0;
  readonly chains: DescriptorChain[] = [];
  activation: DeviceActivation | undefined;
  onResetQueue = (): void => {};

  get queue(): DeviceQueue {
    return this.activation!.queues[0]!;
  }
  readConfig(): void {}
  activate(activation: DeviceActivation): void {
    this.activation = activation;
  }
  processQueue(): void {
    const chain = this.queue.pop();
    if (chain === undefined) return;
    this.chains.push(chain);
    this.processQueue();
  }
  resetQueue(): void {
    this.onResetQueue();
    this.chains.length = 0;
  }
  reset(): void {}
}

/** A device that has three requests. The second is finished, and the driver was not told: a stop does that. */
async function startUnfinished(features: FeatureBits) {
  const made = benchOf(new LooseDevice(), true, features);
  const { loops, device, host, driver, send } = made;
  host.enableQueue(0, driver.addresses);
  host.writeStatus(STATUS_DRIVER_OK);
  for (const token of [1, 2, 3]) send(token);
  await loops.settle();
  device.queue.push(device.chains[1]!, 0);
  return made;
}

describe.each([
  ['split', BASE_FEATURES],
  ['packed', BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)],
])('a queue whose requests were given up: %s', (_, features) => {
  it('says what its ring does not give again, and goes on with each request once', async () => {
    const { loops, device, host, driver, calls, end } = await startUnfinished(features);
    const left = await runUntilDone(loops, host.stopQueue(0, { timeoutMs: 10 })!);
    expect(left.takenChains).toHaveLength(1);
    expect([driver.popUsed(), driver.popUsed(), calls]).toEqual([2, -1, [0]]);
    host.enableQueue(0, driver.addresses, left);
    await loops.settle();
    expect(device.chains).toHaveLength(2);
    for (const chain of device.chains) device.queue.push(chain, 0);
    device.activation!.complete(0);
    expect([driver.popUsed(), driver.popUsed(), driver.popUsed()]).toEqual([1, 3, -1]);
    expect(driver.violation).toBeUndefined();
    expect(end()).toEqual([]);
  });

  it('those of a predecessor that nobody took are handed on', async () => {
    const { loops, device, host, driver, end } = await startUnfinished(features);
    const left = await runUntilDone(loops, host.stopQueue(0, { timeoutMs: 10 })!);
    host.enableQueue(0, driver.addresses, left);
    const again = await runUntilDone(loops, host.stopQueue(0, { timeoutMs: 10 })!);
    expect(again).toEqual(left);
    expect(device.chains).toEqual([]);
    expect(end()).toEqual([]);
  });

  it('writes nowhere what the device pushes once it is stopped', async () => {
    const { loops, device, host, driver, end } = await startUnfinished(features);
    const ring = (): string => JSON.stringify(driver.snapshot(), (_key, value) => String(value));
    let before = '';
    device.onResetQueue = () => {
      before = ring();
      device.queue.push(device.chains[2]!, 0);
      device.queue.push(device.chains[0]!, 0);
    };
    await runUntilDone(loops, host.stopQueue(0, { timeoutMs: 10 })!);
    expect(ring()).toBe(before);
    expect(end()).toEqual([]);
  });
});

describe('queues that are not for the device', () => {
  it.each([false, true])('what comes is given back and called, unseen (polling %s)', async (polling) => {
    const { loops, device, host, driver, send, calls, end } = benchOf(
      new LooseDevice(),
      true,
      BASE_FEATURES,
      polling,
    );
    expect(host.enableQueue(0, driver.addresses, { isDiscarded: true })).toBe(true);
    send(1);
    host.writeStatus(STATUS_DRIVER_OK);
    await loops.settle();
    expect([driver.popUsed(), driver.usedSize, calls]).toEqual([1, 0, [0]]);
    expect(device.activation!.queues[0]).toBeUndefined();
    for (const token of [2, 3, 4, 5]) send(token);
    host.kick(0);
    await loops.settle();
    expect(Array.from({ length: 5 }, () => driver.popUsed())).toEqual([2, 3, 4, 5, -1]);
    device.onResetQueue = () => expect.unreachable('a queue that it does not have');
    const left = await runUntilDone(loops, host.stopQueue(0)!);
    expect(left).toEqual({ start: { available: 5, used: 5 }, takenChains: [] });
    send(6);
    host.enableQueue(0, driver.addresses, left);
    await loops.settle();
    expect(device.chains).toHaveLength(1);
    expect(end()).toEqual([]);
  });

  it('on a live device it is another queue at the same index, and then none', async () => {
    const { loops, device, host, driver, end } = benchOf(new LooseDevice());
    host.enableQueue(0, driver.addresses);
    host.writeStatus(STATUS_DRIVER_OK);
    await loops.settle();
    expect(device.activation!.queues[0]).toBeDefined();
    const left = await runUntilDone(loops, host.stopQueue(0)!);
    host.enableQueue(0, driver.addresses, { ...left, isDiscarded: true });
    expect(device.activation!.queues[0]).toBeUndefined();
    expect(end()).toEqual([]);
  });

  it('those that a device says it discards must be its own', () => {
    const device = Object.assign(new ProbeDevice(), { discardedWhenDisabled: [3] });
    expect(() => benchOf(device)).toThrow(
      new RangeError('Queue 3 is discarded when disabled, and does not exist'),
    );
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
    handOver: () => queue.handOver(),
    release: () => queue.release(),
    snapshot: () => queue.snapshot(),
  };
}
