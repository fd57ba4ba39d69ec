import { XenbusState } from '@virtlab/abi/xenbus';
import { describe, expect, it } from 'vitest';
import { backendPath, backendsPath, frontendPath, frontendsPath } from './paths.ts';
import { readState } from './state.ts';
import { BACKEND, FRONTEND, createTestStore, settle } from './testing.ts';
import { createDevice, detachDevice, offlineDevice, removeDevice } from './toolstack.ts';

describe('paths', () => {
  it('xenstore-paths: device/<kind>/<id> and backend/<kind>/<frontend>/<id>', async () => {
    const { device } = await createTestStore();
    expect(frontendPath(device)).toBe('/local/domain/1/device/vtest/3');
    expect(backendPath(device)).toBe('/local/domain/2/backend/vtest/1/3');
    expect(frontendsPath(FRONTEND, 'vtest')).toBe('/local/domain/1/device/vtest');
    expect(backendsPath(BACKEND, 'vtest')).toBe('/local/domain/2/backend/vtest');
  });
});

describe('createDevice', () => {
  it('makes both directories, with the permissions and keys of libxl_device.c', async () => {
    const { toolstack, device } = await createTestStore();
    await createDevice(toolstack, { ...device, frontendKeys: { mac: 'a' }, backendKeys: { params: 'b' } });
    const keysOf = async (path: string): Promise<Record<string, string>> => {
      const names = await toolstack.directory(path);
      const values = await Promise.all(names.map((name) => toolstack.readText(`${path}/${name}`)));
      return Object.fromEntries(names.map((name, index) => [name, values[index]!]));
    };
    expect(await keysOf(frontendPath(device))).toEqual({
      backend: backendPath(device),
      'backend-id': '2',
      mac: 'a',
      state: '1',
    });
    expect(await keysOf(backendPath(device))).toEqual({
      frontend: frontendPath(device),
      'frontend-id': '1',
      online: '1',
      params: 'b',
      state: '1',
    });
    const none = (domid: number) => ({ domid, access: 'n' });
    const read = (domid: number) => ({ domid, access: 'r' });
    for (const key of ['', '/state']) {
      expect(await toolstack.getPermissions(`${frontendPath(device)}${key}`)).toEqual([none(1), read(2)]);
      expect(await toolstack.getPermissions(`${backendPath(device)}${key}`)).toEqual([none(2), read(1)]);
    }
  });

  it('each end writes its own directory and only reads the other’s', async () => {
    const { toolstack, frontend, backend, device } = await createTestStore();
    await createDevice(toolstack, device);
    await frontend.write(`${frontendPath(device)}/state`, '3');
    await backend.write(`${backendPath(device)}/state`, '2');
    expect(await readState(frontend, backendPath(device))).toBe(XenbusState.InitWait);
    expect(await readState(backend, frontendPath(device))).toBe(XenbusState.Initialised);
    await expect(frontend.write(`${backendPath(device)}/state`, '4')).rejects.toMatchObject({
      code: 'EACCES',
    });
    await expect(backend.write(`${frontendPath(device)}/state`, '4')).rejects.toMatchObject({
      code: 'EACCES',
    });
    await expect(frontend.mkdir('/local/domain/1/device/vtest/9')).rejects.toMatchObject({ code: 'EACCES' });
  });

  it('is seen at once: a watcher never finds half of it', async () => {
    const { toolstack, backend, device } = await createTestStore();
    const seen = new Set<string>();
    await backend.watch(backendsPath(BACKEND, 'vtest'), () => {
      void backend.exists(`${backendPath(device)}/state`).then(async (isThere) => {
        seen.add(`${isThere} ${await backend.exists(`${frontendPath(device)}/state`)}`);
      });
    });
    await createDevice(toolstack, device);
    await settle();
    expect([...seen].filter((pair) => pair !== 'false false')).toEqual(['true true']);
  });

  it('removes what stood there', async () => {
    const { toolstack, device } = await createTestStore();
    await createDevice(toolstack, { ...device, frontendKeys: { old: '1' } });
    await toolstack.write(`${backendPath(device)}/state`, '6');
    await createDevice(toolstack, device);
    expect(await toolstack.exists(`${frontendPath(device)}/old`)).toBe(false);
    expect(await readState(toolstack, backendPath(device))).toBe(XenbusState.Initialising);
  });
});

describe('removeDevice and offlineDevice', () => {
  it('removes both directories, and those above once they are empty', async () => {
    const { toolstack, device } = await createTestStore();
    const other = { ...device, index: 4 };
    await createDevice(toolstack, device);
    await createDevice(toolstack, other);
    await removeDevice(toolstack, device);
    expect(await toolstack.directory('/local/domain/1/device/vtest')).toEqual(['4']);
    expect(await toolstack.directory('/local/domain/2/backend/vtest/1')).toEqual(['4']);
    await removeDevice(toolstack, other);
    expect(await toolstack.directory('/local/domain/1/device')).toEqual([]);
    expect(await toolstack.directory('/local/domain/2/backend')).toEqual([]);
    await removeDevice(toolstack, other);
  });

  it('taking offline asks the backend to close, and makes nothing that is not there', async () => {
    const { toolstack, device } = await createTestStore();
    await offlineDevice(toolstack, device);
    expect(await toolstack.exists(backendPath(device))).toBe(false);
    await createDevice(toolstack, device);
    await offlineDevice(toolstack, device);
    expect(await toolstack.readText(`${backendPath(device)}/online`)).toBe('0');
    expect(await readState(toolstack, backendPath(device))).toBe(XenbusState.Closing);
  });
});

describe('detachDevice', () => {
  it('libxl: waits for the backend’s Closed, then removes both directories', async () => {
    const { toolstack, backend, device } = await createTestStore();
    await createDevice(toolstack, device);
    await backend.write(`${backendPath(device)}/state`, String(XenbusState.Connected));
    let isDone = false;
    const detaching = detachDevice(toolstack, device).then((isOrderly) => {
      isDone = true;
      return isOrderly;
    });
    await settle();
    expect(await toolstack.readText(`${backendPath(device)}/online`)).toBe('0');
    expect(await readState(toolstack, backendPath(device))).toBe(XenbusState.Closing);
    expect(isDone).toBe(false);
    await backend.write(`${backendPath(device)}/state`, String(XenbusState.Closed));
    expect(await detaching).toBe(true);
    expect(await toolstack.exists(frontendPath(device))).toBe(false);
    expect(await toolstack.exists(backendPath(device))).toBe(false);
  });

  it('uses force when told to, also from the start, and finds nothing to do where there is no device', async () => {
    const { toolstack, daemon, device } = await createTestStore();
    await createDevice(toolstack, device);
    const force = new AbortController();
    const detaching = detachDevice(toolstack, device, { signal: force.signal });
    await settle();
    force.abort();
    expect(await detaching).toBe(false);
    await createDevice(toolstack, device);
    expect(await detachDevice(toolstack, device, { signal: AbortSignal.abort() })).toBe(false);
    expect(await toolstack.exists(backendPath(device))).toBe(false);
    expect(await detachDevice(toolstack, device)).toBe(true);
    daemon.assertQuiescent();
  });
});
