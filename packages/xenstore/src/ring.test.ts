import { domId, evtchnPort } from '@virtlab/abi/brands';
import {
  XENSTORE_DOMAIN_INTERFACE,
  XENSTORE_ERROR_PROTO,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RECONNECT,
  XENSTORE_RING_SIZE,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XS_GET_DOMAIN_PATH,
  XS_WATCH,
} from '@virtlab/abi/xs-wire';
import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import { XenstoreClient } from './client.ts';
import { ScriptConnection } from './conformance-script.ts';
import { type InProcessXenstore, createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import type { XenstoreProfile } from './profile.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { PROFILE_C_HEAD } from './profile-c-head.ts';
import { type RingPage, RingStream, ringWord } from './ring-stream.ts';
import { type RingClient, connectRing } from './ring.ts';
import type { XenstoreStore } from './store.ts';
import { encodePacket } from './wire.ts';

interface Guest {
  readonly xenstore: InProcessXenstore;
  readonly tools: XenstoreClient;
  readonly page: RingPage;
  readonly ring: RingClient;
  readonly kicks: { toServer: number; toClient: number };
  /** The domain's event channel fires without a reason. */
  readonly kickServer: () => void;
}

/** A machine with domain 5 introduced over a ring page; event channels deliver at once, from within `kick`. */
async function introduceGuest(
  profile: XenstoreProfile = PROFILE_C_4_17,
  prepare?: (store: XenstoreStore) => void,
): Promise<Guest> {
  const page = { ...memoryRegion(new SharedArrayBuffer(4096)), byteOffset: 0 };
  const kicks = { toServer: 0, toClient: 0 };
  let onServerEvent = (): void => undefined;
  let ring: RingClient | undefined;
  const xenstore = createXenstore({
    profile,
    domains: {
      attach: (domid) =>
        domid !== 5
          ? Promise.resolve('EINVAL' as const)
          : Promise.resolve({
              page,
              kick: () => {
                kicks.toClient += 1;
                ring?.onEvent();
              },
              listen: (onEvent) => {
                onServerEvent = onEvent;
              },
              close: () => undefined,
            }),
    },
  });
  prepare?.(xenstore.store);
  const tools = xenstore.connect(domId(0));
  await tools.introduce(domId(5), 1, evtchnPort(3));
  const kickServer = (): void => {
    kicks.toServer += 1;
    onServerEvent();
  };
  ring = connectRing(page, kickServer);
  return { xenstore, tools, page, ring, kicks, kickServer };
}

const field = (page: RingPage, name: Parameters<typeof ringWord>[1]): number =>
  page.u32[ringWord(page, name)]!;
const setField = (page: RingPage, name: Parameters<typeof ringWord>[1], value: number): void => {
  page.u32[ringWord(page, name)] = value;
};

describe('ring page (xenstore-ring.txt)', () => {
  it('INTRODUCE connects the domain as a guest; a refusal by the hypervisor is passed on', async () => {
    const { tools, ring, xenstore } = await introduceGuest();
    await tools.write('/local/domain/5/name', 'guest');
    await tools.setPermissions('/local/domain/5', [{ domid: 5, access: 'n' }]);
    await tools.setPermissions('/local/domain/5/name', [{ domid: 5, access: 'n' }]);
    const guest = new XenstoreClient(ring.stream);
    expect(await guest.readText('name')).toBe('guest');
    await expect(guest.read('/tool')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(tools.introduce(domId(6), 1, evtchnPort(3))).rejects.toMatchObject({ code: 'EINVAL' });
    expect(await tools.isDomainIntroduced(domId(5))).toBe(true);
    expect(await tools.isDomainIntroduced(domId(6))).toBe(false);
    xenstore.assertQuiescent();
  });

  it('messages larger than the ring pass through it, both ways', async () => {
    const { tools, ring } = await introduceGuest();
    await tools.write('/big', 'x'.repeat(4000));
    await tools.setPermissions('/big', [{ domid: 5, access: 'n' }]);
    const guest = new XenstoreClient(ring.stream);
    expect(await guest.readText('/big')).toBe('x'.repeat(4000));
    await guest.write('/big', 'y'.repeat(2000));
    expect(await tools.readText('/big')).toBe('y'.repeat(2000));
  });

  it('a request costs one event each way', async () => {
    const { ring, kicks } = await introduceGuest();
    const guest = new XenstoreClient(ring.stream);
    await guest.getDomainPath(domId(5));
    const before = { ...kicks };
    for (let i = 0; i < 100; i++) await guest.getDomainPath(domId(5));
    expect(kicks.toServer - before.toServer).toBe(100);
    expect(kicks.toClient - before.toClient).toBe(100);
  });

  it.each(['req_prod', 'rsp_cons'] as const)(
    'an impossible %s sets error 2 and ends this connection only',
    async (name) => {
      const { xenstore, tools, page, ring, kickServer } = await introduceGuest();
      const guest = new XenstoreClient(ring.stream);
      await guest.watch('/x');
      expect(xenstore.statistics().watchCount).toBe(1);
      const used = name === 'req_prod' ? 'req_cons' : 'rsp_prod';
      const distance = name === 'req_prod' ? XENSTORE_RING_SIZE + 1 : 1;
      setField(page, name, field(page, used) + distance);
      if (name === 'req_prod') kickServer();
      else await guest.read('/x').catch(() => undefined); // the reply finds no place
      expect(await guest.closed).toContain('error 2');
      expect(field(page, 'error')).toBe(XENSTORE_ERROR_RINGIDX);
      xenstore.assertQuiescent();
      expect(await tools.isDomainIntroduced(domId(5))).toBe(true);
    },
  );

  it('a payload over 4096 bytes sets error 3', async () => {
    const { tools, page, ring } = await introduceGuest();
    const closed = new Promise((resolve) => {
      ring.stream.attach({ onData: () => undefined, onDrain: () => undefined, onClose: resolve });
    });
    ring.stream.send(new Uint8Array([2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0]));
    expect(await closed).toContain('error 3');
    expect(field(page, 'error')).toBe(XENSTORE_ERROR_PROTO);
    expect(await tools.directory('/')).toEqual(['tool']);
  });

  it('a client does not trust the server either', async () => {
    const { page, ring } = await introduceGuest();
    const guest = new XenstoreClient(ring.stream);
    setField(page, 'rsp_prod', field(page, 'rsp_cons') + 5000);
    ring.onEvent();
    expect(await guest.closed).toContain('5000 bytes');
    await expect(guest.read('/')).rejects.toMatchObject({ code: 'EIO' });
  });

  it('features without the reconnection bit: reconnect is refused', async () => {
    const { ring, page } = await introduceGuest();
    expect(field(page, 'server_features')).toBe(0);
    expect(() => ring.reconnect()).toThrow(TypeError);
  });

  it('reconnection: the server forgets watches and transactions and starts a new stream', async () => {
    const profile = { ...PROFILE_C_4_17, serverFeatures: XENSTORE_SERVER_FEATURE_RECONNECTION };
    const { xenstore, page, ring } = await introduceGuest(profile);
    const first = new XenstoreClient(ring.stream);
    await first.watch('/x');
    const stream = await ring.reconnect();
    expect(field(page, 'connection')).not.toBe(XENSTORE_RECONNECT);
    await expect(first.read('/x')).rejects.toMatchObject({ code: 'EIO' });
    xenstore.assertQuiescent();
    const second = new XenstoreClient(stream);
    expect(await second.getDomainPath(domId(5))).toBe('/local/domain/5');
  });

  it('RELEASE ends the ring', async () => {
    const { tools, ring } = await introduceGuest();
    const guest = new XenstoreClient(ring.stream);
    expect(await guest.getDomainPath(domId(5))).toBe('/local/domain/5');
    await tools.release(domId(5));
    const request = guest.getDomainPath(domId(5));
    guest.close();
    await expect(request).rejects.toMatchObject({ code: 'EIO' });
    await expect(tools.release(domId(5))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('the page is where it is said to be, and may lie inside other memory', () => {
    const region = memoryRegion(new SharedArrayBuffer(3 * 4096));
    region.u8.fill(0xaa);
    const page = { ...region, byteOffset: 4096 };
    for (const name of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) setField(page, name, 0);
    const server = new RingStream(page, 'server', () => undefined);
    expect(server.send(new Uint8Array(2000).fill(0x55))).toBe(XENSTORE_RING_SIZE);
    const { rsp } = XENSTORE_DOMAIN_INTERFACE.offset;
    expect(region.u8.subarray(4096 + rsp, 4096 + rsp + XENSTORE_RING_SIZE).every((b) => b === 0x55)).toBe(
      true,
    );
    expect(region.u8.subarray(0, 4096 + rsp).every((b) => b === 0xaa)).toBe(true);
    expect(() => new RingStream({ ...region, byteOffset: 2 }, 'server', () => undefined)).toThrow(RangeError);
  });
});

describe('ring page of profile c-head', () => {
  const port = async (inPage: number, profile: XenstoreProfile): Promise<number> => {
    const page = { ...memoryRegion(new SharedArrayBuffer(4096)), byteOffset: 0 };
    setField(page, 'evtchn_port', inPage);
    let bound = 0;
    const xenstore = createXenstore({
      profile,
      domains: {
        attach: (_domid, _gfn, named, portOf) => {
          bound = portOf(page);
          expect(named).toBe(3);
          return { page, kick: () => undefined, listen: () => undefined, close: () => undefined };
        },
      },
    });
    const tools = xenstore.connect(domId(0));
    await tools.introduce(domId(5), 1, evtchnPort(3));
    expect(field(page, 'server_features')).toBe(profile.serverFeatures);
    xenstore.close();
    return bound;
  };

  it('introduce_domain: a port in the page goes before the one of the request; 4.17 does not look', async () => {
    expect(await port(9, PROFILE_C_HEAD)).toBe(9);
    expect(await port(0, PROFILE_C_HEAD)).toBe(3);
    expect(await port(9, PROFILE_C_4_17)).toBe(3);
  });

  it('ignore_connection: the error field is written only for a domain that is offered it', async () => {
    for (const [features, error] of [
      [14, XENSTORE_ERROR_PROTO],
      [12, 0],
    ] as const) {
      const { page, ring, xenstore } = await introduceGuest(PROFILE_C_HEAD, (store) => {
        store.domains.existing(5)!.features = features;
      });
      expect(field(page, 'server_features')).toBe(features);
      ring.stream.send(new Uint8Array([2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0]));
      expect(field(page, 'error')).toBe(error);
      expect(xenstore.statistics().connections).toHaveLength(1);
    }
  });

  it('do_watch: a domain without the feature may not give a depth', async () => {
    const { ring } = await introduceGuest(PROFILE_C_HEAD, (store) => {
      store.domains.existing(5)!.features = 2;
    });
    const guest = new ScriptConnection(ring.stream);
    guest.send(XS_WATCH, 0, '/w\0t\x001\0');
    expect(new TextDecoder().decode((await guest.next())!.payload)).toBe('EINVAL\0');
  });
});

describe('a domain whose ring broke the protocol', () => {
  it('ignore_connection: is not served when it is introduced again, only after RELEASE', async () => {
    const { page, ring, tools, xenstore } = await introduceGuest();
    const connectionCount = (): number => xenstore.statistics().connections.length;
    ring.stream.send(new Uint8Array([2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0]));
    expect(field(page, 'error')).toBe(XENSTORE_ERROR_PROTO);
    expect(connectionCount()).toBe(1);
    await tools.introduce(domId(5), 1, evtchnPort(3));
    expect(connectionCount()).toBe(1);
    expect(await tools.isDomainIntroduced(domId(5))).toBe(true);
    await tools.release(domId(5));
    await tools.introduce(domId(5), 1, evtchnPort(3));
    expect(connectionCount()).toBe(2);
    expect(field(page, 'error')).toBe(XENSTORE_ERROR_PROTO); // nobody clears it but the domain itself
  });
});

describe('fairness', () => {
  it('main: a domain that floods its ring and a client on a stream get their turns alike', async () => {
    const turns: (() => void)[] = [];
    const xenstore = createXenstore({ batchCount: 1, schedule: (run) => void turns.push(run) });
    const page = { ...memoryRegion(new SharedArrayBuffer(4096)), byteOffset: 0 };
    const server = new RingStream(page, 'server', () => undefined);
    xenstore.server.accept(server, { domid: 5, privileged: false }, 'ring');
    const [clientEnd, serverEnd] = memoryStreamPair();
    xenstore.server.accept(serverEnd, { domid: 0, privileged: true }, 'socket');
    const request = encodePacket(XS_GET_DOMAIN_PATH, 1, 0, '5\0');
    const ring = connectRing(page, () => server.onEvent());
    ring.stream.attach({ onData: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    clientEnd.attach({ onData: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    for (let i = 0; i < 19; i++) ring.stream.send(request); // as many as may be outstanding
    for (let i = 0; i < 5; i++) clientEnd.send(request);
    const served: number[] = [];
    await new Promise((resolve) => setImmediate(resolve)); // until the stream has delivered
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) {
      const before = xenstore.statistics().connections.map(({ requestCount }) => requestCount);
      turn();
      const after = xenstore.statistics().connections.map(({ requestCount }) => requestCount);
      served.push(...after.flatMap((count, i) => Array<number>(count - before[i]!).fill(i)));
    }
    const last = served.lastIndexOf(1);
    expect(served.filter((who) => who === 1).length).toBeGreaterThan(3);
    // From the first to the last of its requests, the slow client waits for one request of the other between two.
    expect(served.slice(served.indexOf(1), last + 1).filter((who) => who === 0).length).toBeLessThanOrEqual(
      5,
    );
    expect(served.filter((who) => who === 0).length).toBeGreaterThan(10);
    xenstore.close();
  });
});
