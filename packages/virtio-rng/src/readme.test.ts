import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { createBufferList } from '@virtlab/vring';
import { DeviceHost, RING_FEATURES, initializeDevice, type VirtioDevice } from '@virtlab/virtio';
import { describeDevice } from '@virtlab/virtio/conformance';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createRngDevice, createRngDriver } from './index.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const [usage, ownDevice] = README.matchAll(/```ts\n([^]*?)```/g).map(([, code]) => code!);

type AsyncCode = (...values: unknown[]) => Promise<unknown>;
const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => AsyncCode;

/** Runs a snippet with these names in scope, and gives what `result` is at its end. */
async function execute(
  code: string,
  scope: Readonly<Record<string, unknown>>,
  result: string = 'undefined',
): Promise<unknown> {
  const script = new AsyncFunction(...Object.keys(scope), `${stripTypeScriptTypes(code)}\nreturn ${result};`);
  return await script(...Object.values(scope));
}

async function ownDeviceOfReadme(): Promise<VirtioDevice> {
  return (await execute(ownDevice!, { RING_FEATURES }, 'device')) as VirtioDevice;
}

describe('README', () => {
  it('the usage works as it stands', async () => {
    const printed: unknown[][] = [];
    const aio = createAioContext();
    await execute(usage!, {
      DeviceHost,
      aio,
      memoryRegion,
      createMemoryTransport,
      createRngDevice,
      createRngDriver,
      console: { log: (...values: unknown[]) => printed.push(values) },
    });
    expect(printed).toHaveLength(1);
    expect(printed[0]![0]).toBe(32);
    expect(String(printed[0]![1]).split(',')).toHaveLength(32);
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
  });

  it('a device of one’s own takes at most 20 lines', () => {
    expect(ownDevice!.trimEnd().split('\n').length).toBeLessThanOrEqual(20);
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
