import { type GrantRef } from '@virtlab/abi/brands';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import { VIRTIO_XENBUS_CONFIG_PAGE } from '@virtlab/abi/virtio-xenbus';
import { XenbusState } from '@virtlab/abi/xenbus';
import { DeviceHost } from '@virtlab/virtio';
import { formatHex64 } from '@virtlab/xenbus';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VirtioXenbusBackend } from './backend-contract.ts';
import { createGrantDmaMapper } from './grant-dma-mapper.ts';
import { STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK, bringUp, negotiate } from './testing/drive.ts';
import { garbage } from './testing/garbage.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

const AT = VIRTIO_XENBUS_CONFIG_PAGE.offset;

interface Victim {
  readonly rig: XenRig;
  readonly place: RigDevice;
  readonly device: TinyDevice;
  readonly host: DeviceHost;
  readonly backend: VirtioXenbusBackend;
}

async function victim(): Promise<Victim> {
  const rig = new XenRig({ ramPages: 32 });
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2));
  await place.plug();
  const device = new TinyDevice();
  const host = new DeviceHost({ device, aio: place.backend.aio });
  return { rig, place, device, host, backend: await rig.run(place.serve(host)) };
}

/** A well-behaved driver is served by the same backend; answers what is left then. */
async function unharmed({ rig, place, device, host, backend }: Victim): Promise<readonly string[]> {
  const link = await rig.run(place.connect());
  const ring = new RawRing(link.dma);
  await rig.run(bringUp(link, ring));
  const before = device.doneCount;
  ring.add(ring.addresses.descriptorArea, 16);
  link.transport.kick(0);
  await rig.until('the buffer is done', () => device.doneCount === before + 1);
  await rig.run(link.transport.writeStatus(0));
  ring.free();
  await rig.run(link[Symbol.asyncDispose]());
  await rig.run(backend[Symbol.asyncDispose]());
  host[Symbol.dispose]();
  return rig.leaks();
}

/** Goes through a driver's writes by hand, with some values replaced. */
async function misbehave(
  { rig, place }: Victim,
  lies: Readonly<Record<string, string | Uint8Array>>,
): Promise<void> {
  const { store, events, memory, pages, grants } = place.frontend;
  const dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: place.backend.id });
  const page = dma.allocateCoherent(4096);
  const ring = new RawRing(dma);
  const ports = [await events.allocUnbound(place.backend.id), await events.allocUnbound(place.backend.id)];
  const write = async (keys: Readonly<Record<string, string>>): Promise<void> => {
    for (const [key, value] of Object.entries(keys)) {
      await rig.run(store.write(`${place.frontendPath}/${key}`, lies[key] ?? value));
    }
    await rig.settle();
  };
  await write({ 'config-ref': String(page.addressLow >>> 12), 'config-event-channel': String(ports[0]) });
  await write({ state: String(XenbusState.Initialised) });
  await write({ 'driver-features': formatHex64((1n << 32n) | (1n << 33n) | (1n << 40n) | 1n) });
  await write({ 'driver-status': '1 1' });
  await write({ 'driver-status': `2 ${STATUS_DRIVER}` });
  await write({ 'driver-status': `3 ${STATUS_FEATURES_OK}` });
  await write({
    'queue-0/size': '8',
    'queue-0/descriptor-address': formatHex64(ring.addresses.descriptorArea),
    'queue-0/driver-address': formatHex64(ring.addresses.driverArea),
    'queue-0/device-address': formatHex64(ring.addresses.deviceArea),
    'queue-0/event-channel': String(ports[1]),
    'queue-0/enabled': '1',
  });
  await write({ 'driver-status': `4 ${STATUS_DRIVER_OK}` });
  await write({ 'driver-queue/0': '1 0' });
  await write({ 'driver-queue/0': '2 1' });
  await rig.run(store.write(`${place.frontendPath}/state`, String(XenbusState.Closed)));
  await rig.settle();
  for (const port of ports) await events.close(port);
  expect([dma.freeCoherent(page), ring.free()], 'the backend let go').toEqual([true, true]);
}

const KEYS = [
  'config-ref',
  'config-event-channel',
  'state',
  'driver-features',
  'driver-status',
  'queue-0/size',
  'queue-0/descriptor-address',
  'queue-0/driver-address',
  'queue-0/device-address',
  'queue-0/event-channel',
  'queue-0/enabled',
  'driver-queue/0',
];

describe('a frontend that writes nonsense', () => {
  it('without any, the same moves bring the device up', async () => {
    const prey = await victim();
    let wasActive = false;
    const { activate } = prey.device;
    prey.device.activate = (activation) => {
      wasActive = true;
      activate.call(prey.device, activation);
    };
    await misbehave(prey, {});
    expect(wasActive).toBe(true);
    expect(prey.backend.fault).toBeUndefined();
    expect(await unharmed(prey)).toEqual([]);
  });

  it.each(KEYS)('%s: the backend lets go, and serves the next driver', async (key) => {
    await fc.assert(
      fc.asyncProperty(garbage, async (value) => {
        const prey = await victim();
        await misbehave(prey, { [key]: value });
        expect(await unharmed(prey)).toEqual([]);
      }),
      { numRuns: 25 },
    );
  });

  it.each([
    ['config-ref', '4294967296', 'not a number'],
    ['config-ref', '2000', 'cannot be mapped'],
    ['config-event-channel', '999', 'Port 999'],
    ['driver-status', '1', '"1"'],
    ['driver-status', '0 3', '"0 3"'],
    ['driver-features', '-1', 'not a 64-bit hex number'],
    ['driver-queue/0', '1 2', '"1 2"'],
    ['driver-queue/0', '0 0', '"0 0"'],
    ['queue-0/size', '8x', 'not a number'],
    ['queue-0/event-channel', '999', 'Port 999'],
  ])(
    '%s = %s is reported as “… %s …”, in the place for errors and as Closing',
    async (key, value, message) => {
      const prey = await victim();
      const { rig, place } = prey;
      const errorPath = `/local/domain/2/error/backend/virtio/1/0/error`;
      await misbehave(prey, { [key]: value });
      expect(prey.backend.fault).toContain(message);
      expect(await rig.run(rig.toolstack.readText(errorPath))).toBe(`22 ${prey.backend.fault}`);
      expect(await unharmed(prey)).toEqual([]);
      expect(await rig.run(rig.toolstack.exists(errorPath)), 'the report is taken back').toBe(false);
      expect(place.backend.leaks()).toEqual([]);
    },
  );
});

describe('a driver that abuses what it lent', () => {
  it('a configuration write out of bounds ends the connection, and only this one', async () => {
    const words: readonly (readonly [number, number])[] = [
      [0, 257],
      [7, 2],
      [0xffff_ffff, 1],
      [4, 0xffff_ffff],
    ];
    for (const [offset, size] of words) {
      const prey = await victim();
      const { rig, place } = prey;
      const link = await rig.run(place.connect());
      const told: string[] = [];
      link.transport.onGone((reason) => told.push(reason));
      const page = Number(
        await rig.run(rig.toolstack.readText(`${place.frontendPath}/config-ref`)),
      ) as GrantRef;
      const { frame } = place.frontend.grants.live().find(({ ref }) => ref === page)!;
      const { u32 } = place.frontend.memory;
      u32[(frame * 4096 + AT.write_offset) / 4] = offset;
      u32[(frame * 4096 + AT.write_size) / 4] = size;
      u32[(frame * 4096 + AT.write_sequence) / 4] = 77;
      const port = Number(
        await rig.run(rig.toolstack.readText(`${place.frontendPath}/config-event-channel`)),
      );
      place.frontend.events.send(port as never);
      await rig.until('the driver is told', () => told.length === 1);
      expect(prey.backend.fault).toContain('out of bounds');
      expect([...prey.device.config]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      await rig.run(link[Symbol.asyncDispose]());
      expect(await unharmed(prey)).toEqual([]);
    }
  });

  it('any words in the configuration page harm nobody else', async () => {
    const word = fc.oneof(fc.nat(600), fc.integer({ min: 0, max: 0xffff_ffff }));
    await fc.assert(
      fc.asyncProperty(fc.array(word, { minLength: 8, maxLength: 8 }), async (words) => {
        const prey = await victim();
        const { rig, place } = prey;
        const link = await rig.run(place.connect());
        const page = Number(await rig.run(rig.toolstack.readText(`${place.frontendPath}/config-ref`)));
        const { frame } = place.frontend.grants.live().find(({ ref }) => ref === page)!;
        place.frontend.memory.u32.set(words, (frame * 4096) / 4);
        const port = Number(
          await rig.run(rig.toolstack.readText(`${place.frontendPath}/config-event-channel`)),
        );
        place.frontend.events.send(port as never);
        await rig.settle();
        await rig.run(link[Symbol.asyncDispose]());
        expect(await unharmed(prey)).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it.each([
    ['revoked', (ref: GrantRef, { frontend }: RigDevice) => frontend.grants.endAccess(ref)],
    [
      'granted to somebody else',
      (ref: GrantRef, { frontend }: RigDevice) => {
        const { frame } = frontend.grants.live().find((each) => each.ref === ref)!;
        frontend.grants.endAccess(ref);
        frontend.grants.grantAccess(5 as never, frame, false);
      },
    ],
    [
      'read-only',
      (ref: GrantRef, { frontend, backend }: RigDevice) => {
        const { frame } = frontend.grants.live().find((each) => each.ref === ref)!;
        frontend.grants.endAccess(ref);
        frontend.grants.grantAccess(backend.id, frame, true);
      },
    ],
  ])('§2.7 a ring whose grant is %s: the driver sees NEEDS_RESET', async (_, spoil) => {
    const prey = await victim();
    const { rig, place } = prey;
    const link = await rig.run(place.connect());
    const ring = new RawRing(link.dma);
    await rig.run(negotiate(link));
    await rig.run(link.transport.enableQueue(0, ring.addresses));
    spoil((ring.area.addressLow >>> 12) as GrantRef, place);
    await rig.run(link.transport.writeStatus(STATUS_DRIVER_OK));
    expect((await link.transport.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    expect(prey.host.violation?.section).toBe('2.7');
    expect(prey.backend.state).toBe(XenbusState.Connected);
    await rig.run(link.transport.writeStatus(0));
    await rig.run(link[Symbol.asyncDispose]());
    for (const { ref } of place.frontend.grants.live()) place.frontend.grants.endAccess(ref);
    place.frontend.pages.free(ring.area.offset, ring.area.size);
    expect(await unharmed(prey)).toEqual([]);
  });

  it('a buffer whose grant is gone: NEEDS_RESET arrives as a configuration change', async () => {
    const prey = await victim();
    const { rig, place } = prey;
    const link = await rig.run(place.connect());
    const ring = new RawRing(link.dma);
    await rig.run(bringUp(link, ring));
    let toldCount = 0;
    link.transport.onConfigChange(() => {
      toldCount += 1;
    });
    ring.add((1n << 63n) | (1500n << 12n), 16);
    link.transport.kick(0);
    await rig.until('told', () => toldCount > 0);
    expect((await link.transport.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    const line = await rig.run(rig.toolstack.readText(`${place.backendPath}/device-status`));
    expect(Number(line.split(' ')[1]) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    await rig.run(link.transport.writeStatus(0));
    ring.free();
    await rig.run(link[Symbol.asyncDispose]());
    expect(await unharmed(prey)).toEqual([]);
  });
});
