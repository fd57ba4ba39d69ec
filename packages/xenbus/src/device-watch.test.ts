import { describe, expect, it } from 'vitest';
import { type DeviceWatch, watchDevices } from './device-watch.ts';
import { backendsPath, frontendsPath } from './paths.ts';
import { BACKEND, FRONTEND, type TestStore, createTestStore, settle } from './testing.ts';
import { createDevice, removeDevice } from './toolstack.ts';

async function watching(world: TestStore, depth: 1 | 2): Promise<{ watch: DeviceWatch; seen: string[] }> {
  const seen: string[] = [];
  const handlers = {
    onAdded: ({ names }: { names: readonly string[] }) => seen.push(`+${names.join('/')}`),
    onRemoved: ({ names }: { names: readonly string[] }) => seen.push(`-${names.join('/')}`),
  };
  const watch =
    depth === 1
      ? await watchDevices(world.frontend, frontendsPath(FRONTEND, 'vtest'), 1, handlers)
      : await watchDevices(world.backend, backendsPath(BACKEND, 'vtest'), 2, handlers);
  return { watch, seen };
}

describe('watchDevices', () => {
  it.each([
    [1, '3', '4'],
    [2, '1/3', '1/4'],
  ] as const)(
    'depth %i: each directory once when it appears, once when it is gone',
    async (depth, first, second) => {
      const world = await createTestStore();
      const { toolstack, device } = world;
      await createDevice(toolstack, device);
      const { watch, seen } = await watching(world, depth);
      await settle();
      expect(seen).toEqual([`+${first}`]);
      await createDevice(toolstack, { ...device, index: 4 });
      await toolstack.write(`/local/domain/1/device/vtest/3/state`, '2');
      await settle();
      await removeDevice(toolstack, device);
      await settle();
      await removeDevice(toolstack, { ...device, index: 4 });
      await settle();
      expect(seen).toEqual([`+${first}`, `+${second}`, `-${first}`, `-${second}`]);
      await watch[Symbol.asyncDispose]();
      world.daemon.assertQuiescent();
    },
  );

  it('a directory without a state is not there yet', async () => {
    const world = await createTestStore();
    const { watch, seen } = await watching(world, 1);
    await world.toolstack.mkdir('/local/domain/1/device/vtest/0');
    await settle();
    expect(seen).toEqual([]);
    await world.toolstack.write('/local/domain/1/device/vtest/0/state', '1');
    await settle();
    expect(seen).toEqual(['+0']);
    await watch[Symbol.asyncDispose]();
  });

  it('settled: all that changed before has been reported', async () => {
    const world = await createTestStore();
    const { watch, seen } = await watching(world, 2);
    for (let index = 0; index < 5; index += 1) {
      await createDevice(world.toolstack, { ...world.device, index });
      await watch.settled();
      expect(seen).toHaveLength(index + 1);
    }
    await watch[Symbol.asyncDispose]();
  });

  it('nothing is reported after disposal, or when the connection is lost', async () => {
    const world = await createTestStore();
    const one = await watching(world, 1);
    const two = await watching(world, 2);
    await settle();
    await one.watch[Symbol.asyncDispose]();
    world.backend.close();
    await createDevice(world.toolstack, world.device);
    await settle();
    await two.watch.settled();
    await two.watch[Symbol.asyncDispose]();
    expect([...one.seen, ...two.seen]).toEqual([]);
    world.daemon.assertQuiescent();
  });
});
