import { XenbusState } from '@virtlab/abi/xenbus';
import { describe, expect, it } from 'vitest';
import { backendPath, frontendPath } from './paths.ts';
import { switchState } from './state.ts';
import { type TestStore, createTestStore, settle } from './testing.ts';
import { createDevice, removeDevice } from './toolstack.ts';
import { type XenbusDevice, openXenbusDevice } from './xenbus-device.ts';

const { Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState;

interface Pair extends TestStore {
  readonly front: XenbusDevice;
  readonly back: XenbusDevice;
}

async function pair(): Promise<Pair> {
  const world = await createTestStore();
  await createDevice(world.toolstack, world.device);
  const [front, back] = await Promise.all([
    openXenbusDevice({ store: world.frontend, path: frontendPath(world.device), role: 'frontend' }),
    openXenbusDevice({ store: world.backend, path: backendPath(world.device), role: 'backend' }),
  ]);
  return { ...world, front, back };
}

describe('openXenbusDevice', () => {
  it('finds the other end', async () => {
    const { front, back, device } = await pair();
    expect([front.otherend, front.otherendDomain]).toEqual([backendPath(device), 2]);
    expect([back.otherend, back.otherendDomain]).toEqual([frontendPath(device), 1]);
    expect(front.toString()).toBe('/local/domain/1/device/vtest/3 (Unknown, other end Unknown)');
  });

  it('without a directory it rejects with ENOENT', async () => {
    const { frontend, device } = await createTestStore();
    const opening = openXenbusDevice({ store: frontend, path: frontendPath(device), role: 'frontend' });
    await expect(opening).rejects.toMatchObject({ name: 'XenbusError', code: 'ENOENT' });
  });

  it.each([
    ['backend-id', ''],
    ['backend-id', '-1'],
    ['backend-id', '32752'],
    ['backend-id', '2 '],
    ['backend-id', '3'],
    ['backend', ''],
    ['backend', 'backend/vtest/1/3'],
    ['backend', '/local/domain/22/backend/vtest/1/3'],
  ])('%s = %j names nobody: EINVAL', async (key, value) => {
    const { toolstack, frontend, device } = await createTestStore();
    await createDevice(toolstack, device);
    const path = frontendPath(device);
    await frontend.write(`${path}/${key}`, value);
    const opening = openXenbusDevice({ store: frontend, path, role: 'frontend' });
    await expect(opening).rejects.toMatchObject({ name: 'XenbusError', code: 'EINVAL' });
  });

  it('a path that is no domain’s is the caller’s mistake', async () => {
    const { frontend } = await createTestStore();
    await expect(openXenbusDevice({ store: frontend, path: '/x/1', role: 'frontend' })).rejects.toThrow(
      RangeError,
    );
  });
});

describe('own state', () => {
  it('is written with its keys in one transaction: who sees the state sees them', async () => {
    const { front, backend } = await pair();
    const seen: (string | boolean)[] = [];
    await backend.watch(`${front.path}/state`, () => {
      void backend.readText(`${front.path}/state`).then(async (state) => {
        seen.push(state, await backend.exists(`${front.path}/ring-ref`));
      });
    });
    await settle();
    expect(await front.switchState(Initialised, { 'ring-ref': '8' })).toBe(true);
    await settle();
    expect(seen).toEqual(['1', false, '3', true]);
    expect(front.state).toBe(Initialised);
  });

  it('the same one is not written twice', async () => {
    const { front, backend } = await pair();
    let events = -1;
    await front.switchState(Initialised);
    await backend.watch(`${front.path}/state`, () => {
      events += 1;
    });
    await settle();
    expect(await front.switchState(Initialised)).toBe(true);
    await settle();
    expect(events).toBe(0);
  });

  it('undefined removes a key and what is below', async () => {
    const { front, toolstack } = await pair();
    await front.write({ 'queue-0/size': '8', 'queue-0/enabled': '1', other: '1' });
    expect(await front.readOwn('queue-0/size')).toBe('8');
    expect(await front.write({ 'queue-0': undefined, 'queue-1': undefined })).toBe(true);
    expect(await toolstack.directory(front.path)).toEqual(['backend', 'backend-id', 'state', 'other']);
    expect(await front.readOwn('queue-0')).toBeUndefined();
  });

  it('a directory that was removed is not made again, by any role', async () => {
    const { front, back, toolstack, device } = await pair();
    await removeDevice(toolstack, device);
    expect(await front.switchState(Connected)).toBe(false);
    expect(await back.switchState(Connected, { a: '1' })).toBe(false);
    expect(await switchState(toolstack, back.path, Connected)).toBe(false);
    expect(await toolstack.exists(frontendPath(device))).toBe(false);
    expect(await toolstack.exists(backendPath(device))).toBe(false);
    expect(front.state).toBe(Unknown);
  });

  it('a directory that was made anew is another’s', async () => {
    const { front, toolstack, device } = await pair();
    await front.switchState(Connected);
    await createDevice(toolstack, device);
    expect(await front.write({ a: '1' })).toBe(false);
    expect(await front.switchState(Closed)).toBe(false);
    expect(await toolstack.readText(`${front.path}/state`)).toBe(String(Initialising));
  });

  it('a conflict is retried', async () => {
    const { front, toolstack } = await pair();
    const writes = Array.from({ length: 20 }, () => toolstack.write(`${front.path}/state`, String(Closing)));
    expect(await front.switchState(Closed)).toBe(true);
    await Promise.all(writes);
  });
});

describe('the other end', () => {
  it('its states arrive in order, the present one first, each once', async () => {
    const { front, back } = await pair();
    const seen: XenbusState[] = [];
    await front.watchOtherend((state) => seen.push(state));
    await settle();
    for (const state of [InitWait, Connected, Connected, Closing]) {
      await back.switchState(state);
      await back.write({ other: String(state) });
      await settle();
    }
    expect(seen).toEqual([Initialising, InitWait, Connected, Closing]);
    expect(front.otherendState).toBe(Closing);
  });

  it.each([
    ['its directory is removed', ({ toolstack, back }: Pair) => toolstack.rm(back.path)],
    ['its state is nonsense', ({ backend, back }: Pair) => backend.write(`${back.path}/state`, 'up')],
    [
      'its state is hidden',
      ({ toolstack, back }: Pair) =>
        toolstack.setPermissions(`${back.path}/state`, [{ domid: 2, access: 'n' }]),
    ],
    ['its domain died', ({ daemon }: Pair) => daemon.releaseDomain(2 as never)],
    ['the connection is lost', ({ frontend }: Pair) => frontend.close()],
  ])('Unknown when %s', async (_, lose) => {
    const world = await pair();
    const seen: XenbusState[] = [];
    await world.front.watchOtherend((state) => seen.push(state));
    await settle();
    await Promise.resolve(lose(world));
    await settle();
    expect(seen).toEqual([Initialising, Unknown]);
  });

  it('nothing is reported after disposal, and no watch is left', async () => {
    const { front, back, daemon } = await pair();
    const seen: unknown[] = [];
    await front.watchOtherend((state) => seen.push(state));
    await front.watchOwnState((state) => seen.push(state));
    const one = await front.watchOtherendKey('online', (text) => seen.push(text));
    await settle();
    expect(seen.map(String)).toEqual(['1', '1', '1']);
    await one[Symbol.asyncDispose]();
    const disposing = front[Symbol.asyncDispose]();
    await back.switchState(InitWait, { online: '0' });
    await disposing;
    await settle();
    expect(seen).toHaveLength(3);
    daemon.assertQuiescent();
  });

  it('a watch that is disposed of while it is being registered leaves nothing', async () => {
    const { front, daemon } = await pair();
    const watching = front.watchOtherend(() => {});
    await front[Symbol.asyncDispose]();
    await watching;
    expect(() => daemon.assertQuiescent()).not.toThrow();
  });

  it('its numbers are checked', async () => {
    const { front, backend, back } = await pair();
    await backend.write(`${back.path}/n`, '70000');
    expect(await front.readOtherendNumber('n', 70000)).toBe(70000);
    await expect(front.readOtherendNumber('n', 69999)).rejects.toMatchObject({
      code: 'EINVAL',
      path: `${back.path}/n`,
    });
    await expect(front.readOtherendHex64('n')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(front.readOtherend('missing')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('fatal', () => {
  it('Linux xenbus_dev_fatal: errno and text below error/, and Closing; taken back when it is over', async () => {
    const { front, toolstack } = await pair();
    await front.switchState(Initialised);
    await front.fatal(22, 'no ring');
    const place = '/local/domain/1/error/device/vtest/3';
    expect(await toolstack.readText(`${place}/error`)).toBe('22 no ring');
    expect(await toolstack.readText(`${front.path}/state`)).toBe(String(Closing));
    await front.clearError();
    expect(await toolstack.exists(place)).toBe(false);
  });

  it('a domain that has no place for errors still goes to Closing', async () => {
    const { front, toolstack } = await pair();
    await toolstack.rm('/local/domain/1/error');
    await front.fatal(22, 'no ring');
    expect(await toolstack.readText(`${front.path}/state`)).toBe(String(Closing));
    await front.clearError();
  });
});
