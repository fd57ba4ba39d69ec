import { domId } from '@virtlab/abi/brands';
import { createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import {
  type ServeVhostUserOptions,
  connectVhostUserByGrants,
  serveVhostUser,
  vhostUserStream,
} from '@virtlab/vhost-user';
import { DeviceHost, type VirtioDevice, initializeDevice } from '@virtlab/virtio';
import { type TransportUnderTest, describeTransport } from '@virtlab/virtio/conformance';
import { createGrantDmaMapper } from '@virtlab/virtio-xenbus';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Domain } from './domain.ts';
import { createLocalSystem } from './testing/local-system.ts';
import { createXenMemory } from './xen-memory.ts';

type NodeAio = ReturnType<typeof createNodeAioContext>;

interface Between {
  readonly driver: Domain;
  readonly device: Domain;
  /** The loop of a domain. */
  aioOf(domain: Domain): NodeAio;
  close(): Promise<readonly string[]>;
}

/** Two domUs: the driver's, and the device's, which has no privilege. */
async function twoDomains(): Promise<Between> {
  const contexts = new Map<number, NodeAio>();
  const system = await createLocalSystem((id) => {
    const aio = createNodeAioContext();
    contexts.set(id, aio);
    return aio;
  });
  const driver = await system.addGuest('driver', 'pv');
  const device = await system.addGuest('device', 'pv');
  return {
    driver: driver.domain,
    device: device.domain,
    aioOf: ({ id }) => contexts.get(id)!,
    close: async () => [...driver.domain.leaks(), ...device.domain.leaks(), ...(await system.close())],
  };
}

/** What the device is served with; by default what a driver in the one domain needs. */
type Serving = (domains: Between) => Pick<ServeVhostUserOptions, 'xen' | 'onRefusal'>;
const FOR_DRIVER: Serving = ({ device, driver }) => ({
  xen: createXenMemory(device, { domids: [driver.id] }),
});

async function create(device: VirtioDevice, serving: Serving = FOR_DRIVER): Promise<TransportUnderTest> {
  const domains = await twoDomains();
  const [driverAio, deviceAio] = [domains.aioOf(domains.driver), domains.aioOf(domains.device)];
  const [driverFd, deviceFd] = socketPair();
  const host = new DeviceHost({ device, aio: deviceAio, onError: () => undefined });
  const backend = serveVhostUser(vhostUserStream(deviceFd), {
    host,
    aio: deviceAio,
    drainTimeoutMs: 1, // the suite's device keeps what it is given
    ...serving(domains),
  });
  const { ram: memory, pages, grants, id: domid } = domains.driver;
  const dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: domains.device.id });
  const link = await connectVhostUserByGrants({
    fd: driverFd,
    aio: driverAio,
    deviceType: device.deviceType,
    queueSizeMax: device.queueSizesMax,
    dma,
    domid,
  });
  return {
    link,
    driverAio,
    host,
    settle,
    removeDevice: async () => void (await backend.close()),
    close: async () => {
      await link[Symbol.asyncDispose]();
      await backend.close();
      host[Symbol.dispose]();
      // A device that went away in the middle had pages mapped when their grants were to end.
      const held = dma.reclaim();
      return [...(held > 0 ? [`${held} held grants`] : []), ...(await domains.close())];
    },
  };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
  await new Promise((resolve) => void setTimeout(resolve, 0));
}

function createEcho(): VirtioDevice {
  return {
    deviceType: 42,
    features: 0n,
    queueSizesMax: [8],
    configSize: 0,
    readConfig: () => {},
    activate: () => {},
    processQueue: () => {},
    reset: () => {},
  };
}

describeWithFfi('XEN_MMAP: a device in one domU serves a driver in another through grants', () => {
  let fdCount = 0;
  beforeEach(() => (fdCount = openFdCount()));
  afterEach(() => expect(openFdCount() - fdCount, 'file descriptors').toBe(0));

  describeTransport({
    name: 'vhost-user by grants',
    create: async ({ device }) => await create(device),
  });

  it('a device that does not know XEN_MMAP is refused, and keeps nothing', async () => {
    const under = await create(createEcho(), () => ({}));
    const opening = initializeDevice(under.link, { aio: under.driverAio, wanted: 0n });
    await expect(opening).rejects.toMatchObject({ code: 'ENOTSUP' });
    expect(await under.close()).toEqual([]);
  });

  it('a driver in a domain for which its peer does not speak is refused by name, and keeps nothing', async () => {
    const reasons: string[] = [];
    let domid: number | undefined;
    const under = await create(createEcho(), ({ device, driver }) => {
      domid = driver.id;
      const xen = createXenMemory(device, { domids: [domId(driver.id + 100)] });
      return { xen, onRefusal: (reason) => reasons.push(reason) };
    });
    await expect(initializeDevice(under.link, { aio: under.driverAio, wanted: 0n })).rejects.toThrow();
    expect(reasons).toEqual([
      expect.stringMatching(`^ADD_MEM_REG: grants of domain ${domid}, .* out of reach$`),
    ]);
    expect(await under.close()).toEqual([]);
  });
});
