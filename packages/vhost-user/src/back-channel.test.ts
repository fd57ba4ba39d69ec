import { VHOST_USER_PROTOCOL_F } from '@virtlab/abi/vhost-user';
import { UnixStream, closeFd, memfdCreate, openFdCount, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { expect, it } from 'vitest';
import { BACKEND_REQUESTS } from './messages.ts';
import { RequestReceiver } from './request-receiver.ts';
import { BASE_FEATURES, RawMachine, RawPeer, RawRing, until } from './testing/raw-peer.ts';

const bit = (name: keyof typeof VHOST_USER_PROTOCOL_F): bigint => 1n << BigInt(VHOST_USER_PROTOCOL_F[name]);

/** The other side's end of the back channel, which notes what comes. */
async function openBackChannel(peer: RawPeer): Promise<{ readonly heard: string[]; close(): void }> {
  const [ours, theirs] = socketPair();
  const heard: string[] = [];
  const note = (name: string) => (payload: unknown) => {
    heard.push(payload === undefined ? name : `${name} ${(payload as { index: number }).index}`);
    return { ok: true, value: undefined } as const;
  };
  const receiver = new RequestReceiver({
    stream: UnixStream.fromFd(ours),
    table: BACKEND_REQUESTS,
    handlers: {
      CONFIG_CHANGE_MSG: note('CONFIG_CHANGE_MSG'),
      VRING_CALL: note('VRING_CALL'),
      VRING_ERR: note('VRING_ERR'),
    },
    decodeContext: () => peer.context,
    hasFeature: () => true,
    onEnd: () => {},
  });
  await peer.ask('SET_BACKEND_REQ_FD', undefined, theirs);
  closeFd(theirs);
  return { heard, close: () => receiver.close() };
}

describeWithFfi('"Back-end communication"', () => {
  it('a change of the configuration is told, once rings run', async () => {
    const before = openFdCount();
    {
      using machine = new RawMachine();
      await using peer = new RawPeer();
      peer.device.isPrompt = true;
      using ring = new RawRing(machine, 0, BASE_FEATURES);
      await peer.bringUp(machine, ring);
      const channel = await openBackChannel(peer);
      peer.device.activation?.configChanged();
      await until('it is heard', () => channel.heard.length === 1);
      await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
      peer.device.activation?.configChanged();
      await peer.ask('GET_STATUS', undefined);
      expect(channel.heard).toEqual(['CONFIG_CHANGE_MSG']);
      await peer.startRing(ring);
      await until('what was owed', () => channel.heard.length === 2);
      channel.close();
      // Nobody listens any more: nothing happens.
      peer.device.activation?.configChanged();
      await peer.ask('GET_STATUS', undefined);
    }
    expect(openFdCount()).toBe(before);
  });

  it('INBAND_NOTIFICATIONS: kicks and calls are messages, and the ring starts with the first kick', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.negotiate();
    const channel = await openBackChannel(peer);
    await peer.setMemory(machine);
    await peer.ask('SET_VRING_NUM', { index: 0, num: 16 });
    await peer.ask('SET_VRING_BASE', { index: 0, num: 0 });
    await peer.ask('SET_VRING_ADDR', ring.userAddresses());
    await peer.enable(0);
    await peer.driverOk();
    ring.send(1);
    await peer.ask('VRING_KICK', { index: 0, num: 0 });
    await until('the call', () => channel.heard.length === 1);
    expect(ring.receive()).toHaveLength(1);
    ring.queue.enableCalls();
    ring.send(2);
    await peer.ask('VRING_KICK', { index: 0, num: 0 });
    await until('the second call', () => channel.heard.length === 2);
    machine.region.u16[Number(ring.queue.addresses.driverArea) / 2 + 1] = 999;
    await peer.ask('VRING_KICK', { index: 0, num: 0 });
    await until('the error', () => channel.heard.includes('VRING_ERR 0'));
    expect(channel.heard.slice(0, 2)).toEqual(['VRING_CALL 0', 'VRING_CALL 0']);
    channel.close();
  });

  it('INBAND_NOTIFICATIONS without BACKEND_REQ and REPLY_ACK: the back-end closes the connection', async () => {
    for (const features of [bit('INBAND_NOTIFICATIONS'), bit('INBAND_NOTIFICATIONS') | bit('BACKEND_REQ')]) {
      const peer = new RawPeer();
      expect(await peer.try('SET_PROTOCOL_FEATURES', features)).toMatchObject({ fault: { code: 'CLOSED' } });
      expect((await peer.end()).fault?.message).toMatch(/INBAND_NOTIFICATIONS/);
      await peer[Symbol.asyncDispose]();
    }
  });

  it('a descriptor that is no socket is refused', async () => {
    const before = openFdCount();
    {
      await using peer = new RawPeer();
      await peer.negotiate();
      const fd = memfdCreate('no socket', 8);
      expect(await peer.try('SET_BACKEND_REQ_FD', undefined, fd)).toMatchObject({
        fault: { code: 'REFUSED' },
      });
      closeFd(fd);
    }
    expect(openFdCount()).toBe(before);
  });
});
