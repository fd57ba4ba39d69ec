import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DeviceBus, connectDevices } from '@virtlab/domain';
import { createLocalSystem } from '@virtlab/domain/testing';
import { type VirtioDevice, initializeDevice } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/vring';
import { afterAll, expect, it } from 'vitest';

const README = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
const folder = mkdtempSync(join(import.meta.dirname, '.readme-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The device as it stands in the README, as a module of its own. */
async function readmeDevice(): Promise<VirtioDevice> {
  const [, code] = /```ts\n(import type[^]*?)```/.exec(README)!;
  const path = join(folder, 'reverser.ts');
  writeFileSync(path, code!);
  const module = (await import(path)) as { createReverser(): VirtioDevice };
  return module.createReverser();
}

it('README: the device is as short as it says', () => {
  const [, code] = /```ts\nimport type[^]*?\n\n([^]*?)```/.exec(README)!;
  expect(code!.trim().split('\n').length).toBeLessThanOrEqual(25);
});

it.each(['pci', 'xenbus'] as const)(
  'README: the device works over %s, and only the bus changes',
  async (bus: DeviceBus) => {
    expect(README).toContain(`connectDevices(domain, store, '${bus}')`);
    const system = await createLocalSystem();
    const device = await readmeDevice();
    const { domain, store } = await system.addGuest('u', bus === 'pci' ? 'hvm' : 'pv', (guest) =>
      system.services.devices.plug(guest, 0, device, 'reverser'),
    );
    const links = await connectDevices(domain, store, bus);
    const link = links.byType.get(42)!;
    const session = await initializeDevice(link, { aio: domain.aio, wanted: 0n });
    const { dma } = link;
    const [out, back] = [dma.allocate(4096), dma.allocate(4096)];
    dma.memory.u8.set([1, 2, 3, 4, 5], out);
    const list = createBufferList();
    list.addReadable(out, 5);
    list.addWritable(back, 5);
    const done = new Promise<void>((resolve) =>
      session.onCall(0, () => void (session.queues[0]!.popUsed() === 7 && resolve())),
    );
    expect(session.queues[0]!.add(list, 7)).toBe(0);
    session.kick(0);
    await done;
    expect([...dma.memory.u8.subarray(back, back + 5)]).toEqual([5, 4, 3, 2, 1]);
    await session.stop();
    dma.free(out, 4096);
    dma.free(back, 4096);
    await links[Symbol.asyncDispose]();
    expect(await system.close()).toEqual([]);
  },
);
