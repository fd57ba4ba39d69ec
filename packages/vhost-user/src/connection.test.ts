import { VHOST_USER, VHOST_USER_NEED_REPLY_MASK, VHOST_USER_REPLY_MASK } from '@virtlab/abi/vhost-user';
import { createSimulation } from '@virtlab/aio/simulated';
import { EventFd, closeFd, openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ProtocolFault } from './fault.ts';
import { type Frame, FrameReader, PAYLOAD_SIZE_MAX, encodeFrame } from './frame-reader.ts';
import { REQUESTS } from './messages.ts';
import { U64, VRING_FD, viewOf } from './payload-codec.ts';
import type { Answer } from './request-receiver.ts';
import { RequestSender } from './request-sender.ts';
import { CONTEXT, startReceiver, startSender, streamPair } from './testing/channel-pair.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

function collect(needsFds: (request: number) => boolean = () => false) {
  const frames: Frame[] = [];
  const reader = new FrameReader({ needsFds, onFrame: (frame) => frames.push(frame) });
  return { frames, reader };
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

describe('"Header": framing', () => {
  it('messages come out the same however the stream is cut', () => {
    const bytes = concat(
      encodeFrame(1, new Uint8Array(0)),
      encodeFrame(2, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), { needsReply: true }),
      encodeFrame(3, new Uint8Array(PAYLOAD_SIZE_MAX), { isReply: true }),
    );
    const property = fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (cuts) => {
      const { frames, reader } = collect();
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const size = turn < cuts.length ? cuts[turn]! : bytes.length;
        expect(reader.push(bytes.slice(at, at + size), [])).toBeUndefined();
        at += size;
      }
      expect(frames.map(({ request, payload }) => [request, payload.length])).toEqual([
        [1, 0],
        [2, 8],
        [3, PAYLOAD_SIZE_MAX],
      ]);
      expect(frames.map(({ needsReply, isReply }) => [needsReply, isReply])).toEqual([
        [false, false],
        [true, false],
        [false, true],
      ]);
      expect(reader.isMidMessage).toBe(false);
    });
    fc.assert(property, { seed: SEED, numRuns: 50 });
  });

  it.each([
    ['version 0', (view: DataView) => view.setUint32(4, 0, true), 'BAD_VERSION'],
    ['version 2', (view: DataView) => view.setUint32(4, 2, true), 'BAD_VERSION'],
    ['an unknown flag', (view: DataView) => view.setUint32(4, 0x11, true), 'BAD_FLAGS'],
    [
      'a size beyond any message',
      (view: DataView) => view.setUint32(8, PAYLOAD_SIZE_MAX + 1, true),
      'OVERSIZED',
    ],
    ['a size of 2^32 - 1', (view: DataView) => view.setUint32(8, 0xffff_ffff, true), 'OVERSIZED'],
  ] as const)('%s ends the stream with the header alone', (_, spoil, code) => {
    const { frames, reader } = collect();
    const bytes = encodeFrame(1, new Uint8Array(0));
    spoil(viewOf(bytes));
    expect(reader.push(bytes, [])).toMatchObject({ code });
    expect(reader.push(encodeFrame(1, new Uint8Array(0)), [])).toBeUndefined();
    expect(frames).toEqual([]);
  });
});

function eventFds(count: number): number[] {
  return Array.from({ length: count }, () => {
    // A bare descriptor, as a peer's would be.
    return EventFd.create().fd;
  });
}

describeWithFfi('"Communication": descriptors', () => {
  const word = new Uint8Array(8);

  it('belong to the message that needs some, wherever it lies in the chunk', () => {
    const before = openFdCount();
    const { frames, reader } = collect((request) => request === 12);
    const fds = eventFds(1);
    const chunk = concat(encodeFrame(8, word), encodeFrame(12, word), encodeFrame(18, word));
    expect(reader.push(chunk, [...fds])).toBeUndefined();
    expect(frames.map((frame) => frame.fds)).toEqual([[], fds, []]);
    fds.forEach(closeFd);
    expect(openFdCount()).toBe(before);
  });

  it('belong to the last message that begins in the chunk when none needs them', () => {
    const { frames, reader } = collect();
    const fds = eventFds(2);
    const chunk = concat(encodeFrame(8, word), encodeFrame(38, word));
    reader.push(chunk.slice(0, -3), [...fds]);
    reader.push(chunk.slice(-3), []);
    expect(frames.map((frame) => frame.fds)).toEqual([[], fds]);
    fds.forEach(closeFd);
  });

  it('in the middle of a message end the stream, and are closed', () => {
    const before = openFdCount();
    const { frames, reader } = collect();
    const bytes = encodeFrame(8, word);
    expect(reader.push(bytes.slice(0, 10), eventFds(1))).toBeUndefined();
    expect(reader.push(bytes.slice(10), eventFds(2))).toMatchObject({ code: 'BAD_FDS' });
    expect(frames).toEqual([]);
    expect(openFdCount()).toBe(before);
  });

  it('that come again and again before a message is complete end the stream', () => {
    const before = openFdCount();
    const { reader } = collect();
    const bytes = encodeFrame(8, new Uint8Array(1000));
    const faults = [0, 1, 2].map((at) => reader.push(bytes.slice(at, at + 1), eventFds(1))?.code);
    expect(faults.at(-1)).toBe('BAD_FDS');
    expect(openFdCount()).toBe(before);
  });
});

describeWithFfi('a channel', () => {
  it('carries requests, replies and descriptors', async () => {
    const before = openFdCount();
    const [left, right] = streamPair();
    const kicks: (number | undefined)[] = [];
    const { ended } = startReceiver(right, {
      GET_FEATURES: () => ({ ok: true, value: 0x1_4000_0000n }),
      SET_VRING_KICK: ({ index }, fds) => {
        kicks.push(index, fds.take());
        return { ok: true, value: undefined };
      },
      GET_INFLIGHT_FD: (area) => ({ ok: true, value: area, fds: eventFds(1) }),
    });
    const sender = startSender(left);
    expect(await sender.request('GET_FEATURES', undefined)).toMatchObject({
      ok: true,
      value: { value: 0x1_4000_0000n },
    });
    const [kick] = eventFds(1);
    expect(await sender.request('SET_VRING_KICK', { index: 2, hasFd: true }, [kick!])).toMatchObject({
      ok: true,
    });
    const area = { size: 4096n, offset: 0n, queueCount: 1, queueSize: 8 };
    const inflight = await sender.request('GET_INFLIGHT_FD', area);
    expect(inflight).toMatchObject({ ok: true, value: { value: area, fds: { count: 1 } } });
    if (inflight.ok) inflight.value.fds[Symbol.dispose]();
    sender.close();
    expect(await ended).toBeUndefined();
    expect(kicks[0]).toBe(2);
    [kick!, kicks[1]!].forEach(closeFd);
    expect(openFdCount()).toBe(before);
  });

  it('REPLY_ACK: refusals are told to who asked, and end the channel otherwise', async () => {
    const [left, right] = streamPair();
    const fault: ProtocolFault = { code: 'REFUSED', message: 'not this memory' };
    const { ended } = startReceiver(right, { SET_MEM_TABLE: () => ({ ok: false, fault }) });
    const sender = startSender(left);
    expect(await sender.request('SET_MEM_TABLE', [])).toMatchObject({ fault: { code: 'REFUSED' } });
    expect(await sender.request('SET_OWNER', undefined)).toMatchObject({ fault: { code: 'REFUSED' } });
    expect(sender.post('SET_MEM_TABLE', [])).toBeUndefined();
    expect(await ended).toEqual({ code: 'REFUSED', message: 'SET_MEM_TABLE: not this memory' });
    sender.close();
  });

  it('answers in order, also when one takes time', async () => {
    const [left, right] = streamPair();
    const order: string[] = [];
    const gate = Promise.withResolvers<Answer<{ index: number; num: number }>>();
    const { ended } = startReceiver(right, {
      GET_VRING_BASE: () => gate.promise,
      SET_OWNER: () => {
        order.push('owner');
        return { ok: true, value: undefined };
      },
    });
    const sender = startSender(left);
    const base = sender.request('GET_VRING_BASE', { index: 0, num: 0 });
    const owner = sender.request('SET_OWNER', undefined);
    expect(sender.pendingCount).toBe(2);
    expect(order).toEqual([]);
    gate.resolve({ ok: true, value: { index: 0, num: 7 } });
    expect(await base).toMatchObject({ value: { value: { num: 7 } } });
    expect(await owner).toMatchObject({ ok: true });
    expect(order).toEqual(['owner']);
    sender.close();
    await ended;
  });

  it.each([
    ['an unknown request', encodeFrame(46, new Uint8Array(0)), 0, 'UNKNOWN_REQUEST'],
    ['request 0', encodeFrame(0, new Uint8Array(0)), 0, 'UNKNOWN_REQUEST'],
    ['a reply', encodeFrame(1, new Uint8Array(0), { isReply: true }), 0, 'BAD_FLAGS'],
    ['a payload of the wrong size', encodeFrame(2, new Uint8Array(7)), 0, 'BAD_SIZE'],
    ['a descriptor too many', encodeFrame(3, new Uint8Array(0)), 1, 'BAD_FDS'],
    [
      'no descriptor where one is due',
      encodeFrame(12, VRING_FD.encode({ index: 0, hasFd: true }, CONTEXT)),
      0,
      'BAD_FDS',
    ],
    [
      'a descriptor with "no descriptor"',
      encodeFrame(12, VRING_FD.encode({ index: 0, hasFd: false }, CONTEXT)),
      1,
      'BAD_FDS',
    ],
    [
      'two where one is due',
      encodeFrame(12, VRING_FD.encode({ index: 0, hasFd: true }, CONTEXT)),
      2,
      'BAD_FDS',
    ],
  ] as const)('%s ends the channel and leaks nothing', async (_, bytes, fdCount, code) => {
    const before = openFdCount();
    const [left, right] = streamPair();
    const { ended, receiver } = startReceiver(right, {});
    const fds = eventFds(fdCount);
    left.send(bytes, fds);
    fds.forEach(closeFd);
    expect(await ended).toMatchObject({ code });
    expect(receiver.isEnded).toBe(true);
    left.close();
    expect(openFdCount()).toBe(before);
  });

  it('a peer that dies in the middle of a message is a fault, one that closes between two is none', async () => {
    const [left, right] = streamPair();
    const { ended } = startReceiver(right, {});
    left.send(encodeFrame(2, new Uint8Array(8)).slice(0, 15));
    left.close();
    expect(await ended).toMatchObject({ code: 'CLOSED' });
    const [other, end] = streamPair();
    const second = startReceiver(end, {});
    other.close();
    expect(await second.ended).toBeUndefined();
  });

  it('descriptors of requests that still wait are closed when the channel ends', async () => {
    const before = openFdCount();
    const [left, right] = streamPair();
    const seen = Promise.withResolvers<void>();
    const { receiver } = startReceiver(right, {
      RESET_DEVICE: () => {
        seen.resolve();
        return Promise.withResolvers<Answer<undefined>>().promise;
      },
    });
    const fds = eventFds(3);
    left.send(encodeFrame(VHOST_USER.RESET_DEVICE, new Uint8Array(0)));
    for (const fd of fds)
      left.send(encodeFrame(12, VRING_FD.encode({ index: 0, hasFd: true }, CONTEXT)), [fd]);
    fds.forEach(closeFd);
    await seen.promise;
    await new Promise(setImmediate);
    receiver.close();
    left.close();
    expect(openFdCount()).toBe(before);
  });

  it('a handler that throws ends the channel, not the process', async () => {
    const [left, right] = streamPair();
    const { ended } = startReceiver(right, {
      SET_OWNER: () => {
        throw new Error('a bug');
      },
    });
    const sender = startSender(left);
    sender.post('SET_OWNER', undefined);
    expect(await ended).toMatchObject({ code: 'REFUSED' });
    sender.close();
  });
});

describeWithFfi('the asking end', () => {
  async function answeredWith(bytes: Uint8Array): Promise<ProtocolFault | undefined> {
    const [left, right] = streamPair();
    right.onData((_, fds) => {
      fds.forEach(closeFd);
      right.send(bytes);
    });
    const ended = Promise.withResolvers<ProtocolFault | undefined>();
    const sender = startSender(left, ended.resolve);
    const outcome = await sender.request('GET_FEATURES', undefined);
    right.close();
    expect(outcome).toMatchObject({ ok: false });
    return await ended.promise;
  }

  it.each([
    ['a reply to another request', encodeFrame(15, U64.encode(0n, CONTEXT), { isReply: true }), 'BAD_FLAGS'],
    ['a request', encodeFrame(1, U64.encode(0n, CONTEXT)), 'BAD_FLAGS'],
    ['a reply of the wrong size', encodeFrame(1, new Uint8Array(4), { isReply: true }), 'BAD_SIZE'],
  ] as const)('%s ends the channel', async (_, bytes, code) => {
    expect(await answeredWith(bytes)).toMatchObject({ code });
  });

  it('a second reply ends the channel', async () => {
    const [left, right] = streamPair();
    const ended = Promise.withResolvers<ProtocolFault | undefined>();
    const sender = startSender(left, ended.resolve);
    const reply = encodeFrame(1, U64.encode(5n, CONTEXT), { isReply: true });
    right.onData(() => right.send(concat(reply, reply)));
    expect(await sender.request('GET_FEATURES', undefined)).toMatchObject({ value: { value: 5n } });
    expect(await ended.promise).toMatchObject({ code: 'BAD_FLAGS' });
    right.close();
  });

  it('requests that wait fail when the peer goes, and later ones at once', async () => {
    const [left, right] = streamPair();
    right.onData(() => right.close());
    const sender = startSender(left);
    const both = [sender.request('GET_FEATURES', undefined), sender.request('GET_STATUS', undefined)];
    for (const outcome of await Promise.all(both))
      expect(outcome).toMatchObject({ fault: { code: 'CLOSED' } });
    expect(sender.post('SET_OWNER', undefined)).toMatchObject({ code: 'CLOSED' });
  });

  it('a peer that does not answer in time has ended', async () => {
    const simulation = createSimulation({ seed: 1 });
    const [left, right] = streamPair();
    const ended = Promise.withResolvers<ProtocolFault | undefined>();
    const aio = simulation.createContext('asker');
    const sender = new RequestSender({
      stream: left,
      table: REQUESTS,
      decodeContext: () => CONTEXT,
      onEnd: ended.resolve,
      aio,
      timeoutMs: 50,
    });
    const outcome = sender.request('GET_FEATURES', undefined);
    await simulation.advance(60);
    expect(await outcome).toMatchObject({ fault: { code: 'TIMEOUT' } });
    expect(await ended.promise).toMatchObject({ code: 'TIMEOUT' });
    expect(aio.leaks()).toEqual([]);
    right.close();
    aio[Symbol.dispose]();
  });
});

it('flags of a reply and of a request that wants one are those of the document', () => {
  expect(encodeFrame(1, new Uint8Array(0), { isReply: true })[4]).toBe(VHOST_USER_REPLY_MASK | 1);
  expect(encodeFrame(1, new Uint8Array(0), { needsReply: true })[4]).toBe(VHOST_USER_NEED_REPLY_MASK | 1);
});
