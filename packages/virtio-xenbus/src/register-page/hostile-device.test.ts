import { VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';
import { type DriverLink, TransportError, initializeDevice } from '@virtlab/virtio';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type RawBackendOptions, RawRegisterBackend } from '../testing/raw-register-backend.ts';
import { RigDevice } from '../testing/rig-device.ts';
import { tellsOf } from '../testing/tells-of.ts';
import { XenRig } from '../testing/xen-rig.ts';
import type { RegisterAccess } from './access.ts';

const { offset: AT } = VIRTIO_XENBUS_REGISTERS;
const TIMEOUT_MS = 200;

interface Scene {
  readonly rig: XenRig;
  readonly place: RigDevice;
  readonly backend: RawRegisterBackend;
}

async function scene(options: RawBackendOptions): Promise<Scene> {
  const rig = new XenRig({ ramPages: 64 });
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2), 0, 'register-page');
  await place.plug();
  const backend = new RawRegisterBackend(place, options);
  await backend.offer();
  return { rig, place, backend };
}

/** The link, or why there is none. */
async function connect({ rig, place, backend }: Scene): Promise<DriverLink | TransportError> {
  const connecting = place.connect(TIMEOUT_MS).catch((error: unknown) => error as TransportError);
  await rig.settle();
  await backend.accept();
  return await rig.finish(connecting);
}

async function end({ rig, backend }: Scene, link: DriverLink | TransportError): Promise<void> {
  const closing = link instanceof TransportError ? undefined : link[Symbol.asyncDispose]();
  await rig.settle();
  await backend.close();
  await rig.finish(Promise.resolve(closing));
  await rig.settle();
  // What the backend held when the driver gave up is taken back by the next that uses the memory.
  expect(rig.leaks().filter((each) => !/grant|pages/.test(each))).toEqual([]);
}

/** A device with one queue of eight entries and eight bytes of configuration. */
const HONEST: Readonly<Record<number, number>> = {
  [AT.abi_version]: 1,
  [AT.queue_count]: 1,
  [AT.config_size]: 8,
  [AT.queue_num]: 8,
  [AT.host_features_high]: 3,
};

function honest({ isWrite, offset }: RegisterAccess): number {
  return isWrite ? 0 : (HONEST[offset] ?? 0);
}

describe('a backend behind the register page', () => {
  it.each([
    ['abi_version', 0],
    ['abi_version', 0xffff_ffff],
    ['queue_count', 1025],
    ['config_size', 173],
  ] as const)('%s = %i: EPROTO, said in the place for errors', async (name, value) => {
    const play = await scene({ answer: (access) => (access.offset === AT[name] ? value : honest(access)) });
    const outcome = await connect(play);
    expect(outcome).toMatchObject({ code: 'EPROTO' });
    const { rig } = play;
    expect(await rig.run(rig.toolstack.exists('/local/domain/1/error/device/virtio/0/error'))).toBe(true);
    await end(play, outcome);
  });

  it('that answers nothing: ETIMEDOUT', async () => {
    const play = await scene({ answer: () => undefined });
    const outcome = await connect(play);
    expect(outcome).toMatchObject({ code: 'ETIMEDOUT' });
    await end(play, outcome);
  });

  it('of 2011, which sends no event when it has answered: be_active is polled', async () => {
    const play = await scene({ answer: honest, sendsEvents: false });
    const link = await connect(play);
    expect(link).not.toBeInstanceOf(TransportError);
    const { transport } = link as DriverLink;
    const before = play.rig.simulation.now();
    expect(await play.rig.run(transport.readDeviceFeatures())).toBe(3n << 32n);
    expect(play.rig.simulation.now() - before).toBeLessThan(TIMEOUT_MS / 4);
    await end(play, link);
  });

  it('that is late: the operation has timed out, the next one gets its own answer and not that', async () => {
    let isSlow = false;
    const play = await scene({ answer: (access) => (isSlow ? undefined : honest(access)) });
    const link = (await connect(play)) as DriverLink;
    isSlow = true;
    const status = play.rig.finish(link.transport.readStatus());
    await expect(status).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    const waiting = link.transport.readQueueSizeMax(0);
    isSlow = false;
    play.backend.answerLate(77);
    expect(await play.rig.run(waiting)).toBe(8);
    await end(play, link);
  });

  it('that is stuck: kicks do not pile up, and are made once it goes on', async () => {
    const kicks: number[] = [];
    let isSlow = false;
    const play = await scene({
      answer: (access) => {
        if (access.offset === AT.queue_notify) kicks.push(access.value);
        if (isSlow) return undefined;
        return access.offset === AT.queue_enable ? 1 : honest(access);
      },
    });
    const link = (await connect(play)) as DriverLink;
    const address = 1n << 63n;
    const addresses = { size: 8, descriptorArea: address, driverArea: address, deviceArea: address };
    await play.rig.run(link.transport.enableQueue(0, addresses));
    isSlow = true;
    for (let count = 0; count < 1000; count += 1) link.transport.kick(0);
    await play.rig.settle();
    expect(kicks).toEqual([0]);
    isSlow = false;
    play.backend.answerLate(0);
    await play.rig.settle();
    expect(kicks).toEqual([0, 0]);
    await end(play, link);
  });

  it('that interrupts for nothing, with any reason: operations go on', async () => {
    const play = await scene({ answer: (access) => (access.offset === AT.isr ? 0xff : honest(access)) });
    const link = (await connect(play)) as DriverLink;
    let told = 0;
    link.transport.onConfigChange(() => (told += 1));
    for (let count = 0; count < 50; count += 1) play.backend.interrupt();
    expect(await play.rig.run(link.transport.readDeviceFeatures())).toBe(3n << 32n);
    await play.rig.settle();
    expect(told).toBeGreaterThan(0);
    await end(play, link);
  });

  it('that goes while it is asked: ENODEV, and onGone once it has let go', async () => {
    const play = await scene({
      answer: (access) => (access.offset === AT.status ? undefined : honest(access)),
    });
    const link = (await connect(play)) as DriverLink;
    const told = tellsOf(link);
    const waiting = link.transport.readStatus().catch((error: unknown) => error);
    await play.rig.settle();
    await play.backend.close();
    expect(await play.rig.run(waiting)).toMatchObject({ code: 'ENODEV' });
    await play.rig.until('told', () => told.length === 1);
    await end(play, link);
    expect(play.rig.leaks()).toEqual([]);
  });

  it('that answers whatever it likes: bringing it up ends one way or the other, and nothing hangs', async () => {
    const outcomes = new Set<boolean>();
    const value = fc.oneof(fc.nat(20), fc.integer({ min: 0, max: 0xffff_ffff }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(value, { minLength: 8, maxLength: 8 }),
        fc.boolean(),
        async (values, isSane) => {
          let at = 0;
          const random = (): number => values[(at += 1) % values.length]!;
          const isIdentity = ({ offset }: RegisterAccess): boolean =>
            offset === AT.abi_version || offset === AT.queue_count || offset === AT.config_size;
          const play = await scene({
            answer: (access) => (isSane && isIdentity(access) ? honest(access) : random()),
          });
          const link = await connect(play);
          outcomes.add(link instanceof TransportError);
          if (!(link instanceof TransportError)) {
            const { aio } = play.place.frontend;
            const bringing = initializeDevice(link, { aio, wanted: 0n, timeoutMs: TIMEOUT_MS });
            const session = await play.rig.finish(bringing.catch((error: unknown) => error as Error));
            if (!(session instanceof Error)) await play.rig.finish(session.stop().catch(() => {}));
          }
          await end(play, link);
        },
      ),
      { numRuns: 60 },
    );
    expect(outcomes).toEqual(new Set([true, false]));
  });
});
