import { VHOST_USER, VHOST_USER_BACKEND, type VhostUserRequest } from '@virtlab/abi/vhost-user';
import { VIRTIO_F_VERSION_1, featureBit } from '@virtlab/abi/virtio';
import { memfdCreate, closeFd } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { TransportError, initializeDevice } from '@virtlab/virtio';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeFrame } from './frame-reader.ts';
import { REQUESTS } from './messages.ts';
import { U64 } from './payload-codec.ts';
import { type FrontendBench, until, withFrontend } from './testing/frontend-bench.ts';
import type { Script, ScriptedDeviceOptions } from './testing/scripted-device.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const RUNS = 60 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const CONTEXT = { queueCount: 256, hasXenMmap: false };
const FEATURES = [
  'MQ',
  'REPLY_ACK',
  'BACKEND_REQ',
  'CONFIG',
  'INFLIGHT_SHMFD',
  'CONFIGURE_MEM_SLOTS',
  'STATUS',
] as const;
const DEVICE: ScriptedDeviceOptions = {
  features: featureBit(VIRTIO_F_VERSION_1),
  protocolFeatures: FEATURES,
  config: new Uint8Array(16),
};

const word =
  (value: bigint): Script =>
  () =>
    U64.encode(value, CONTEXT);
const bytes =
  (size: number): Script =>
  () =>
    new Uint8Array(size);
const silence: Script = () => undefined;

/** Everything that a driver does in its life. */
async function live({ connect, aio }: FrontendBench): Promise<void> {
  const link = await connect();
  const session = await initializeDevice(link, { aio, wanted: 0n, queueSizeMax: 8, timeoutMs: 2000 });
  try {
    await session.readConfig(4, 8);
    await session.writeConfig(4, new Uint8Array(2));
  } catch (error) {
    await session.stop().catch(() => undefined);
    throw error;
  }
  await session.stop();
}

const HOSTILE: readonly (readonly [string, VhostUserRequest, Script, string, RegExp])[] = [
  ['a short word', 'GET_FEATURES', bytes(7), 'EPROTO', /GET_FEATURES.*7 bytes/],
  ['no word at all', 'GET_PROTOCOL_FEATURES', bytes(0), 'EPROTO', /GET_PROTOCOL_FEATURES.*0 bytes/],
  ['no queues', 'GET_QUEUE_NUM', word(0n), 'EPROTO', /GET_QUEUE_NUM: count 0/],
  ['more queues than can be named', 'GET_QUEUE_NUM', word(257n), 'EPROTO', /GET_QUEUE_NUM: count 257/],
  ['no room for memory', 'GET_MAX_MEM_SLOTS', word(0n), 'EPROTO', /GET_MAX_MEM_SLOTS: slots 0/],
  ['a status of more than 8 bits', 'GET_STATUS', word(0x100n), 'EPROTO', /GET_STATUS: status 256/],
  ['a refusal of memory', 'ADD_MEM_REG', word(1n), 'EIO', /ADD_MEM_REG was refused/],
  ['a refusal of a ring', 'SET_VRING_ADDR', word(1n), 'EIO', /SET_VRING_ADDR was refused/],
  ['a short acknowledgement', 'SET_VRING_KICK', bytes(4), 'EPROTO', /SET_VRING_KICK.*4 bytes/],
  ['in-flight memory of no size', 'GET_INFLIGHT_FD', bytes(24), 'EPROTO', /GET_INFLIGHT_FD/],
  ['no answer', 'GET_FEATURES', silence, 'ETIMEDOUT', /GET_FEATURES.*500 ms/],
  ['no acknowledgement', 'SET_OWNER', silence, 'ETIMEDOUT', /SET_OWNER.*500 ms/],
  [
    'the base of another queue',
    'GET_VRING_BASE',
    () => REQUESTS.GET_VRING_BASE.payload.encode({ index: 1, num: 0 }, CONTEXT),
    'EPROTO',
    /GET_VRING_BASE/,
  ],
  [
    'configuration of another place',
    'GET_CONFIG',
    () =>
      REQUESTS.GET_CONFIG.payload.encode(
        { offset: 1, bytes: new Uint8Array(12), isMigration: false },
        CONTEXT,
      ),
    'EPROTO',
    /GET_CONFIG: offset 1/,
  ],
  [
    'less configuration than was asked for',
    'GET_CONFIG',
    () =>
      REQUESTS.GET_CONFIG.payload.encode(
        { offset: 0, bytes: new Uint8Array(4), isMigration: false },
        CONTEXT,
      ),
    'EPROTO',
    /GET_CONFIG: size 4/,
  ],
];

describeWithFfi('driver role: a device that does not keep to the protocol', () => {
  it.each(HOSTILE)('%s (%s) is an error with message and field', async (_, name, script, code, message) => {
    await withFrontend(DEVICE, async (bench) => {
      bench.device.scripts.set(name, script);
      const error = await outcomeOf(live(bench));
      expect(error).toBeInstanceOf(TransportError);
      expect(error).toMatchObject({ code });
      expect((error as Error).message).toMatch(message);
    });
  });

  it('fewer queues than asked for is ENOTSUP', async () => {
    await withFrontend({ ...DEVICE, queueCount: 2n }, async ({ connect }) => {
      await expect(connect({ queueCount: 3 })).rejects.toMatchObject({ code: 'ENOTSUP' });
    });
  });

  it('§2.2.2 features that the device does not acknowledge leave FEATURES_OK clear', async () => {
    await withFrontend(DEVICE, async (bench) => {
      bench.device.scripts.set('SET_FEATURES', word(1n));
      await expect(live(bench)).rejects.toThrow(/refused the features/);
    });
  });

  describe('afterwards', () => {
    /** How the session ended, and what is asked of the device after it. */
    const endOf = async (bench: FrontendBench, hurt: () => void): Promise<readonly unknown[]> => {
      const link = await bench.connect();
      const session = await initializeDevice(link, { aio: bench.aio, wanted: 0n, queueSizeMax: 8 });
      const reasons: string[] = [];
      session.onBroken((reason) => reasons.push(reason));
      hurt();
      await until(() => session.broken !== undefined);
      const later = await outcomeOf(link.transport.readStatus());
      link.transport.kick(0);
      await session.stop();
      return [...reasons, later];
    };
    const endedBy = (why: RegExp): unknown[] => [
      expect.stringMatching(why),
      expect.objectContaining({ code: 'ENODEV' }),
    ];

    it('a message that nobody asked for ends the device', async () => {
      await withFrontend(DEVICE, async (bench) => {
        const { device } = bench;
        const hurt = (): void => device.send(device.stream, VHOST_USER.GET_STATUS, new Uint8Array(8), true);
        expect(await endOf(bench, hurt)).toEqual(endedBy(/none is due/));
      });
    });

    it('so does a descriptor that nobody asked for, which is closed', async () => {
      await withFrontend(DEVICE, async (bench) => {
        const hurt = (): void => {
          const fd = memfdCreate('unasked', 4096);
          const frame = encodeFrame(VHOST_USER.GET_STATUS, new Uint8Array(8), { isReply: true });
          bench.device.stream.send(frame, [fd]);
          closeFd(fd);
        };
        expect(await endOf(bench, hurt)).toEqual(endedBy(/none is due/));
      });
    });

    it('so does nonsense on the back channel', async () => {
      await withFrontend(DEVICE, async (bench) => {
        const { device } = bench;
        const hurt = (): void =>
          device.send(device.back!, VHOST_USER_BACKEND.CONFIG_CHANGE_MSG, new Uint8Array(3), false);
        expect(await endOf(bench, hurt)).toEqual(endedBy(/back channel: CONFIG_CHANGE_MSG.*3 bytes/));
      });
    });

    it('so does hanging up', async () => {
      await withFrontend(DEVICE, async (bench) => {
        expect(await endOf(bench, () => bench.device.stream.close())).toEqual(
          endedBy(/closed the connection/),
        );
      });
    });

    it('the end of the back channel alone is no end of the device', async () => {
      await withFrontend(DEVICE, async (bench) => {
        const { transport } = await bench.connect();
        bench.device.back!.close();
        await new Promise((resolve) => void setImmediate(resolve));
        expect(await transport.readStatus()).toBe(0);
      });
    });
  });

  it(`any bytes in place of any answer end in a TransportError or in nothing, seed ${SEED}`, async () => {
    const names = fc.constantFrom(...(Object.keys(REQUESTS) as VhostUserRequest[]));
    const property = fc.asyncProperty(names, fc.uint8Array({ maxLength: 64 }), async (name, answer) => {
      let outcome: unknown;
      await withFrontend(DEVICE, async (bench) => {
        bench.device.scripts.set(name, (_, usual) => (usual === undefined ? undefined : answer));
        outcome = await outcomeOf(live(bench));
      });
      return outcome === undefined || outcome instanceof TransportError;
    });
    const run = await fc.check(property, { seed: SEED, numRuns: RUNS });
    expect(fc.defaultReportMessage(run)).toBeUndefined();
  }, 60_000);
});

/** What a promise comes to, an error too. */
async function outcomeOf(work: Promise<unknown>): Promise<unknown> {
  return await work.catch((error: unknown) => error);
}
