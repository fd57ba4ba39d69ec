import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { createAioContext } from '@virtlab/aio';
import {
  IoreqSlot,
  PostedBits,
  type TrappedAccess,
  XEN_PAGES,
  createLocalMachine,
} from '@virtlab/hypervisor';
import { type VirtioDevice, initializeDevice } from '@virtlab/virtio';
import { describe, expect, it, vi } from 'vitest';
import { type DeviceBus, connectDevices } from './connect-devices.ts';
import { bootDomain } from './domain.ts';
import { IOREQ_DOORBELL, createHvmPlatform } from './hvm-platform.ts';
import { connectOwnXenstore } from './start-of-day.ts';
import { type LocalGuest, type LocalSystem, createLocalSystem } from './testing/local-system.ts';

/** Places in an operation, in turns of the loop or microtasks, at which somebody is killed. */
const STEPS = 40;
/** Longer than a test may take. */
const LONG_MS = 60_000;
const BUSES = ['pci', 'xenbus'] as const;

/** One queue that is never served. */
function idleDevice(): VirtioDevice {
  return {
    deviceType: VIRTIO_ID_RNG,
    features: 0n,
    queueSizesMax: [8],
    configSize: 0,
    readConfig: () => {},
    activate: () => {},
    processQueue: () => {},
    reset: () => {},
  };
}

async function systemWithDevice(bus: DeviceBus): Promise<{ system: LocalSystem; local: LocalGuest }> {
  const system = await createLocalSystem();
  const local = await system.addGuest('u', bus === 'pci' ? 'hvm' : 'pv', (guest) =>
    system.services.devices.plug(guest, 0, idleDevice(), 'idle'),
  );
  return { system, local };
}

function killDom0({ machine, dom0 }: LocalSystem): void {
  machine.hypervisor.destroyDomain(dom0.id, 'crash', 'Killed');
}

async function pathsOf({ services }: LocalSystem): Promise<readonly string[]> {
  const { store } = services.xenstored;
  const paths: string[] = [];
  const visit = async (path: string): Promise<void> => {
    for (const name of await store.directory(path === '' ? '/' : path)) {
      paths.push(`${path}/${name}`);
      await visit(`${path}/${name}`);
    }
  };
  await visit('');
  return paths.toSorted();
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await Promise.resolve();
}

describe('domain 0 dies', () => {
  it.each(BUSES)(
    '%s: the driver is told that its device is gone, and can let go of everything',
    async (bus) => {
      const { system, local } = await systemWithDevice(bus);
      const { domain, store } = local;
      const links = await connectDevices(domain, store, bus);
      const [link] = links.byType.values();
      const session = await initializeDevice(link!, { aio: domain.aio, wanted: 0n });
      const broken = Promise.withResolvers<string>();
      session.onBroken((reason) => broken.resolve(reason));
      killDom0(system);
      expect(await broken.promise).toMatch(/^device gone: /);
      await expect(link!.transport.writeStatus(VIRTIO_CONFIG_S_DRIVER_OK)).rejects.toMatchObject({
        code: 'ENODEV',
      });
      await session.stop();
      await links[Symbol.asyncDispose]();
      store.close();
      expect(domain.leaks()).toEqual([]);
    },
  );

  it('xenstore requests in flight, and those that follow, fail with EIO', async () => {
    const system = await createLocalSystem();
    const { store } = await system.addGuest('u', 'pv');
    const inFlight = Array.from({ length: 20 }, () => store.readText('name'));
    killDom0(system);
    for (const request of inFlight) await expect(request).rejects.toMatchObject({ code: 'EIO' });
    await expect(store.readText('name')).rejects.toMatchObject({ code: 'EIO' });
    expect(await store.closed).toBeDefined();
  });

  it.each(BUSES)(
    '%s: at any step of connecting, which then fails without a deadline having to pass',
    async (bus) => {
      for (let step = 0; step < 2 * STEPS; step += 1) {
        const { system, local } = await systemWithDevice(bus);
        const { domain, store } = local;
        const connecting = connectDevices(domain, store, bus, { timeoutMs: LONG_MS });
        const bringUp = connecting.then(async (links) => {
          const [link] = links.byType.values();
          try {
            const options = { aio: domain.aio, wanted: 0n, timeoutMs: LONG_MS };
            await using _session = await initializeDevice(link!, options);
          } finally {
            await links[Symbol.asyncDispose]();
          }
        });
        for (let turn = 0; turn < step; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
        killDom0(system);
        await bringUp.catch(() => {}); // late deaths come when all is done
        store.close();
        expect(domain.leaks(), `step ${step}`).toEqual([]);
      }
    },
  );

  it('before a domain looks for xenstored: it finds its connection lost', async () => {
    const system = await createLocalSystem();
    const { domain } = await system.addGuest('u', 'pv');
    killDom0(system);
    await expect(connectOwnXenstore(domain).readText('name')).rejects.toMatchObject({ code: 'EIO' });
  });

  it('before an HVM domain looks for its bus: ENODEV', async () => {
    const system = await createLocalSystem();
    const { domain, store } = await system.addGuest('u', 'hvm');
    killDom0(system);
    await expect(connectDevices(domain, store, 'pci')).rejects.toMatchObject({ code: 'ENODEV' });
  });
});

describe('a device model that does not answer', () => {
  const RAM_SIZE = 1 << 20;
  const ALL_ONES = 0xffff_ffff;

  it('hvm/ioreq.h: accesses read all ones until its late answer came, which is not taken for that of another access', async () => {
    const machine = createLocalMachine({ launch: () => {} });
    const add = async (name: string, type: 'pv' | 'hvm'): Promise<ReturnType<typeof bootDomain>> => {
      const id = machine.hypervisor.createDomain({ name, type, ramSize: RAM_SIZE });
      machine.hypervisor.unpauseDomain(id, { module: '', args: null }, { xenstoreFrame: 0, xenstorePort: 0 });
      await Promise.resolve();
      return bootDomain(machine.connection(id)!, createAioContext());
    };
    const dom0 = await add('dom0', 'pv');
    const hvm = await add('hvm', 'hvm');
    const { xen } = (await dom0.mapDomain(hvm.id)).memory;
    const slot = new IoreqSlot(xen, XEN_PAGES.ioreq, 0);
    const doorbells = new PostedBits(xen, XEN_PAGES.postedDoorbells);
    const access: TrappedAccess = {
      type: 0,
      direction: 0,
      addressLow: 0,
      addressHigh: 0,
      size: 1,
      data: 0,
      dataHigh: 0,
    };
    const taken: number[] = [];
    let isStopped = false;
    const answer = (): void => {
      doorbells.drain((bit) => expect(bit).toBe(IOREQ_DOORBELL));
      if (!slot.take(access)) return;
      taken.push(access.addressLow);
      if (!isStopped) slot.answer(access.direction, access.addressLow);
    };
    await dom0.connection.serveTraps(hvm.id, answer);
    const platform = await createHvmPlatform(hvm);
    const pci = platform.access;
    expect(pci.memoryRead(0x10, 4)).toBe(0x10);
    isStopped = true;
    expect(pci.memoryRead(0x20, 4)).toBe(ALL_ONES);
    isStopped = false;
    expect(pci.memoryRead(0x30, 2)).toBe(0xffff);
    pci.memoryWrite(0x34, 4, 1);
    expect(taken).toEqual([0x10, 0x20]);
    slot.answer(access.direction, 0x20); // late
    expect(pci.memoryRead(0x40, 4)).toBe(0x40);
    expect(platform.statistics).toMatchObject({ trapCount: 5, unansweredCount: 3 });
  });
});

describe('a guest dies', () => {
  it('at any step of its making: that fails or it is dead, and taking it down leaves nothing', async () => {
    for (const type of ['pv', 'hvm'] as const) {
      const system = await createLocalSystem();
      const { hypervisor } = system.machine;
      const { toolstack } = system.services;
      await toolstack.destroyGuest((await system.addGuest('first', type)).guest);
      const before = await pathsOf(system);
      const outcomes = new Set<string>();
      for (let step = 0; step < STEPS; step += 1) {
        const config = { name: 'u', type, ramSize: 1 << 20, program: { module: '', args: null } };
        const making = toolstack.createGuest(config).then(
          (guest) => guest,
          (error: unknown) => error as Error,
        );
        await turns(step * 4);
        for (const { domain } of hypervisor.domains())
          if (domain !== 0) hypervisor.destroyDomain(domain, 'crash', 'Killed');
        const made = await making;
        outcomes.add(made instanceof Error ? 'failed' : 'made');
        if (!(made instanceof Error)) await toolstack.destroyGuest(made);
        expect(await pathsOf(system), `step ${step}`).toEqual(before);
        expect(system.dom0.leaks()).toEqual([]);
      }
      expect([...outcomes].toSorted()).toEqual(['failed', 'made']);
      expect(await system.close()).toEqual([]);
    }
  });

  it.each(BUSES)('%s: at any step of connecting, and nothing of it is left', async (bus) => {
    const system = await createLocalSystem();
    const { devices, toolstack, xenstored } = system.services;
    const add = (): Promise<LocalGuest> =>
      system.addGuest('u', bus === 'pci' ? 'hvm' : 'pv', (guest) =>
        devices.plug(guest, 0, idleDevice(), 'idle'),
      );
    await toolstack.destroyGuest((await add()).guest);
    await devices.idle();
    const before = await pathsOf(system);
    const watches = xenstored.daemon.server.statistics().watchCount;
    const outcomes: boolean[] = [];
    for (let step = 0; step < STEPS; step += 1) {
      const local = await add();
      const outcome = { connected: false };
      void connectDevices(local.domain, local.store, bus).then(
        () => (outcome.connected = true),
        () => {}, // it died meanwhile
      );
      for (let turn = 0; turn < step; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
      outcomes.push(outcome.connected);
      system.machine.hypervisor.destroyDomain(local.domain.id, 'crash', 'Killed');
      local.store.close(); // as its memory would be gone with its process
      await toolstack.destroyGuest(local.guest);
      await devices.idle();
      await vi.waitFor(() => expect(xenstored.daemon.server.statistics().watchCount).toBe(watches));
      expect(await pathsOf(system), `step ${step}`).toEqual(before);
      expect(system.dom0.leaks()).toEqual([]);
      expect(devices.hostOf(local.guest, 0)).toBeUndefined();
    }
    expect([outcomes.at(0), outcomes.at(-1)]).toEqual([false, true]);
    expect(await system.close()).toEqual([]);
  });

  it('twice over: destroying what was destroyed does nothing', async () => {
    const system = await createLocalSystem();
    const { guest } = await system.addGuest('u', 'hvm');
    await system.services.toolstack.destroyGuest(guest);
    await system.services.toolstack.destroyGuest(guest);
    expect(await system.close()).toEqual([]);
  });
});
