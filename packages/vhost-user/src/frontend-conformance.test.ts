import { createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { DeviceHost, type VirtioDevice } from '@virtlab/virtio';
import { type TransportUnderTest, describeTransport } from '@virtlab/virtio/conformance';
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { afterEach, beforeEach, expect } from 'vitest';
import { connectVhostUser } from './frontend-connect.ts';
import { vhostUserStream } from './listen.ts';
import type { ServeVhostUserOptions } from './backend-options.ts';
import type { MessageStream } from './connection.ts';
import { type VhostUserBackend, serveVhostUser } from './serve.ts';
import { splitVhostUser } from './split.ts';
import { serveMember } from './testing/split-member.ts';

/** Both roles on the two ends of a socket, each with a loop of its own. */
async function create(
  device: VirtioDevice,
  withheldProtocolFeatures: readonly VhostUserProtocolFeature[],
  isSplit: boolean,
): Promise<TransportUnderTest> {
  const [driverAio, deviceAio] = [createNodeAioContext(), createNodeAioContext()];
  const [driverFd, deviceFd] = socketPair();
  const host = new DeviceHost({ device, aio: deviceAio, onError: () => undefined });
  const stream = vhostUserStream(deviceFd);
  const serve = isSplit ? serveBehindSplitter : serveVhostUser;
  const backend = serve(stream, {
    host,
    aio: deviceAio,
    withheldProtocolFeatures,
    // The suite's device keeps what it is given.
    drainTimeoutMs: 1,
  });
  const { deviceType, queueSizesMax } = device;
  const link = await connectVhostUser({
    fd: driverFd,
    aio: driverAio,
    deviceType,
    queueSizeMax: queueSizesMax,
    memorySize: 4 << 20,
  });
  return {
    link,
    driverAio,
    host,
    settle,
    removeDevice: async () => void (await backend.close()),
    close: async () => {
      const { dma } = link;
      const held = { pages: dma.usedPages, shares: dma.lentCount, 'coherent buffers': dma.coherentCount };
      await link[Symbol.asyncDispose]();
      await backend.close();
      host[Symbol.dispose]();
      const leaks = Object.entries(held).flatMap(([what, count]) =>
        count === 0 ? [] : [`${count} ${what}`],
      );
      for (const aio of [driverAio, deviceAio]) {
        leaks.push(...aio.leaks());
        aio[Symbol.dispose]();
      }
      return leaks;
    },
  };
}

/** All requests through a splitter to the one session that there is. */
function serveBehindSplitter(stream: MessageStream, options: ServeVhostUserOptions): VhostUserBackend {
  const { queueCount, configSize } = options.host;
  return splitVhostUser(stream, { members: [serveMember(options)], queueCount, configSize });
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 6; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
  await new Promise((resolve) => void setTimeout(resolve, 0));
}

describeWithFfi('driver role on the device-hosting role', () => {
  let fdCount = 0;
  beforeEach(() => (fdCount = openFdCount()));
  afterEach(() => expect(openFdCount() - fdCount, 'file descriptors').toBe(0));
  const variants: readonly (readonly [string, readonly VhostUserProtocolFeature[], boolean?])[] = [
    ['everything that is offered', []],
    ['behind a splitter', [], true],
    ['regions in one table, nothing kept of what is in flight', ['CONFIGURE_MEM_SLOTS', 'INFLIGHT_SHMFD']],
  ];
  for (const [name, withheld, isSplit = false] of variants) {
    describeTransport({
      name: `vhost-user, ${name}`,
      create: async ({ device }) => await create(device, withheld, isSplit),
      ...(withheld.length === 0 && !isSplit ? { enduranceCount: 70_000 } : {}),
    });
  }
});
