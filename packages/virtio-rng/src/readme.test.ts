import assert from 'node:assert/strict';
import { describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { readmeExample, runReadmeExample } from '@virtlab/readme-example';
import { createBufferList } from '@virtlab/vring';
import { DeviceHost, RING_FEATURES, initializeDevice, type VirtioDevice } from '@virtlab/virtio';
import { describeDevice } from '@virtlab/virtio/conformance';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createRngDevice, createRngDriver } from './index.ts';

const README = new URL('../README.md', import.meta.url);
const OWN_DEVICE = '### Write your own device';

async function ownDeviceOfReadme(): Promise<VirtioDevice> {
  const options = { heading: OWN_DEVICE, scope: { RING_FEATURES }, result: 'device' };
  return (await runReadmeExample(README, options)).result as VirtioDevice;
}

describe('README', () => {
  it('the usage works as it stands', async () => {
    using aio = createAioContext();
    const scope = { DeviceHost, aio, memoryRegion, createMemoryTransport, createRngDevice, createRngDriver };
    const { printed } = await runReadmeExample(README, { scope });
    expect(printed).toHaveLength(1);
    expect(printed[0]![0]).toBe(32);
    expect(String(printed[0]![1]).split(',')).toHaveLength(32);
    expect(aio.leaks()).toEqual([]);
  });

  it('a device of one’s own takes at most 20 lines', () => {
    expect(readmeExample(README, OWN_DEVICE).trimEnd().split('\n').length).toBeLessThanOrEqual(20);
  });
});

describeDevice({
  name: 'the README’s own',
  createDevice: ownDeviceOfReadme,
  drive: async (link, aio) => {
    await using session = await initializeDevice(link, { aio, wanted: RING_FEATURES });
    const { dma } = link;
    const offset = dma.allocate(8);
    dma.memory.u8.set([1, 2, 3], offset);
    const buffers = createBufferList();
    buffers.addReadable(offset, 3);
    buffers.addWritable(offset + 4, 3);
    const answered = Promise.withResolvers<number>();
    session.onCall(0, () => {
      if (session.queues[0]!.popUsed() >= 0) answered.resolve(session.queues[0]!.usedSize);
    });
    session.queues[0]!.add(buffers, 0);
    session.kick(0);
    assert.equal(await answered.promise, 3);
    assert.deepEqual([...dma.memory.u8.subarray(offset + 4, offset + 7)], [3, 2, 1]);
    dma.free(offset, 8);
  },
});
