import {
  XENSTORE_PAYLOAD_MAX,
  XSD_SOCKMSG,
  XS_DIRECTORY,
  XS_ERROR,
  XS_MKDIR,
  XS_READ,
  XS_SET_PERMS,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import { byteString } from './byte-string.ts';
import { ScriptConnection } from './conformance-script.ts';
import { type InProcessXenstore, createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';
import type { ConnectionKind } from './server.ts';

function open(xenstore: InProcessXenstore, domid: number, kind: ConnectionKind): ScriptConnection {
  const [clientEnd, serverEnd] = memoryStreamPair({});
  xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 }, kind);
  return new ScriptConnection(clientEnd);
}

function header(type: number, reqId: number, size: number): Uint8Array {
  const bytes = new Uint8Array(XSD_SOCKMSG.size);
  XSD_SOCKMSG.write(new DataView(bytes.buffer), 0, { type, req_id: reqId, tx_id: 0, len: size });
  return bytes;
}

async function reply(connection: ScriptConnection): Promise<[type: number, reqId: number, payload: string]> {
  const packet = await connection.next();
  if (packet === undefined) throw new Error('The connection ended');
  return [packet.type, packet.reqId, byteString(packet.payload)];
}

describe('oxenstored on the wire', () => {
  it('Xb.input: a request without payload waits on a socket for the next byte, and not on a ring', async () => {
    const xenstore = createXenstore({ profile: PROFILE_OXENSTORED });
    const socket = open(xenstore, 0, 'socket');
    socket.sendBytes(header(XS_READ, 1, 0));
    const ring = open(xenstore, 5, 'ring');
    ring.sendBytes(header(XS_READ, 2, 0));
    expect(await reply(ring)).toEqual([XS_ERROR, 2, 'EINVAL\0']);
    expect(xenstore.statistics().connections[0]?.requestCount).toBe(0);
    socket.sendBytes(header(XS_READ, 3, 2).subarray(0, 1));
    expect(await reply(socket)).toEqual([XS_ERROR, 1, 'EINVAL\0']);
    xenstore.close();
  });

  it('Partial.of_string: of a payload over 4096 bytes the first 4096 count, the rest is the next request', async () => {
    const xenstore = createXenstore({ profile: PROFILE_OXENSTORED });
    const connection = open(xenstore, 0, 'socket');
    connection.sendBytes(header(XS_WRITE, 1, XENSTORE_PAYLOAD_MAX + 100));
    const payload = new Uint8Array(XENSTORE_PAYLOAD_MAX).fill(0x78);
    payload.set([0x2f, 0x76, 0]);
    connection.sendBytes(payload);
    connection.sendBytes(header(XS_READ, 2, 2));
    connection.sendBytes(new Uint8Array([0x2f, 0]));
    expect(await reply(connection)).toEqual([XS_ERROR, 1, 'E2BIG\0']);
    expect(await reply(connection)).toEqual([XS_READ, 2, '']);
    xenstore.close();
  });

  it('packet_of: more than 4096 bytes come whole on a socket, and are E2BIG on a ring, as events too', async () => {
    const xenstore = createXenstore({ profile: PROFILE_OXENSTORED });
    const [socket, ring] = [open(xenstore, 0, 'socket'), open(xenstore, 5, 'ring')];
    for (let i = 0; i < 5; i++) {
      socket.send(XS_MKDIR, 0, `/big/${i}${'n'.repeat(1000)}\0`);
      await reply(socket);
    }
    socket.send(XS_DIRECTORY, 0, '/big\0');
    expect((await reply(socket))[2]).toHaveLength(5 * 1002);
    socket.send(XS_SET_PERMS, 0, '/big\0b0\0');
    await reply(socket);
    const reqId = ring.send(XS_DIRECTORY, 0, '/big\0');
    expect(await reply(ring)).toEqual([XS_ERROR, reqId, 'E2BIG\0']);
    const token = 't'.repeat(4000);
    ring.send(XS_WATCH, 0, `/big\0${token}\0`);
    expect((await reply(ring))[0]).toBe(XS_WATCH);
    expect((await reply(ring))[0]).toBe(XS_WATCH_EVENT);
    socket.send(XS_MKDIR, 0, `/big/${'n'.repeat(200)}\0`); // of domain 0, below what all may read
    await reply(socket);
    expect(await reply(ring)).toEqual([XS_ERROR, 0, 'E2BIG\0']);
    xenstore.close();
  });

  it('maybe_ignore_transaction: WATCH and UNWATCH are answered outside of any transaction', async () => {
    const xenstore = createXenstore({ profile: PROFILE_OXENSTORED });
    const connection = open(xenstore, 0, 'socket');
    connection.send(XS_WATCH, 99, '/w\0t\0');
    expect(await connection.next()).toMatchObject({ type: XS_WATCH, txId: 0 });
    expect(await connection.next()).toMatchObject({ type: XS_WATCH_EVENT });
    connection.send(XS_UNWATCH, 99, '/w\0u\0');
    expect(await connection.next()).toMatchObject({ type: XS_ERROR, txId: 0 });
    connection.send(XS_READ, 99, '/\0');
    expect(await connection.next()).toMatchObject({ type: XS_ERROR, txId: 99 });
    xenstore.close();
  });

  it('maxwatchevents: a sleeping watcher costs so many events and no more, and never merges them', async () => {
    const xenstore = createXenstore({ profile: PROFILE_OXENSTORED, quotas: { watchEvents: 20 } });
    const [sleeping, serverEnd] = memoryStreamPair({ capacitySize: 40 });
    xenstore.server.accept(serverEnd, { domid: 0, privileged: true }, 'socket');
    const sleeper = new ScriptConnection(sleeping);
    const writer = open(xenstore, 0, 'socket');
    sleeper.send(XS_WATCH, 0, '/w\0t\0');
    expect((await reply(sleeper))[0]).toBe(XS_WATCH);
    expect((await reply(sleeper))[0]).toBe(XS_WATCH_EVENT);
    sleeping.pause();
    for (let i = 0; i < 30; i++) {
      writer.send(XS_WRITE, 0, '/w\0same');
      await reply(writer);
    }
    const [waiting] = xenstore.statistics().connections;
    expect(waiting?.eventCount).toBeLessThanOrEqual(23);
    expect(waiting?.outputSize).toBeLessThan(20 * 32);
    sleeping.resume();
    for (let i = 0; i < 20; i++) expect(await reply(sleeper)).toEqual([XS_WATCH_EVENT, 0, '/w\0t\0']);
    xenstore.close();
  });
});
