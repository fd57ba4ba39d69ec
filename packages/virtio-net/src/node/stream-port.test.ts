import { UnixStream, openFdCount, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '@virtlab/abi/virtio-net';
import { expect, it, vi } from 'vitest';
import { BytesFrame } from '../frame-views.ts';
import { createHostPort } from '../host-port.ts';
import { joinPorts } from '../join-ports.ts';
import { createLearningSwitch } from '../learning-switch.ts';
import { BROADCAST, hex, mac, makeFrame } from '../testing/frames.ts';
import { type StreamPort, createStreamPort } from './stream-port.ts';

/** A port and the raw other end of its stream. */
async function withPort(body: (port: StreamPort, peer: UnixStream) => Promise<void>): Promise<void> {
  const before = openFdCount();
  const [ours, theirs] = socketPair();
  const port = createStreamPort(UnixStream.fromFd(ours));
  const peer = UnixStream.fromFd(theirs);
  try {
    await body(port, peer);
  } finally {
    port[Symbol.dispose]();
    peer.close();
  }
  await new Promise((resolve) => void setImmediate(resolve));
  expect(openFdCount()).toBe(before);
}

function onWire(...frames: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    frames.map((frame) => [Uint8Array.of(0, 0, frame.length >> 8, frame.length & 255), frame]).flat(),
  );
}

describeWithFfi('a port whose wire is a stream', () => {
  it('a batch leaves as frames behind their lengths, in one piece', async () => {
    await withPort(async (port, peer) => {
      const chunks: string[] = [];
      peer.onData((bytes) => void chunks.push(hex(bytes)));
      const frames = [makeFrame(mac(1), mac(2), 60), makeFrame(mac(1), mac(2), 1514, 1)];
      for (const frame of frames) port.transmit(new BytesFrame().set(frame));
      port.flush();
      await vi.waitFor(() => expect(chunks).toEqual([hex(onWire(...frames))]));
      expect(port.statistics).toMatchObject({ txFrames: 2, txBytes: 1574, txDropped: 0 });
    });
  });

  it('what comes is cut into frames, wherever the stream was cut', async () => {
    await withPort(async (port, peer) => {
      const frames = [60, 14, 9000].map((size, mark) => makeFrame(BROADCAST, mac(3), size, mark));
      const taken: string[] = [];
      port.attach({
        receive(frame) {
          const bytes = new Uint8Array(frame.size);
          frame.copy(0, frame.size, bytes, 0);
          return taken.push(hex(bytes)) > 0;
        },
        flush() {},
      });
      const bytes = onWire(...frames);
      const cuts = [0, 3, 4, 5, 64, 70, 83, bytes.length];
      for (let index = 1; index < cuts.length; index += 1) {
        peer.send(bytes.subarray(cuts[index - 1], cuts[index]));
        await new Promise((resolve) => void setImmediate(resolve));
      }
      await vi.waitFor(() => expect(taken).toEqual(frames.map(hex)));
      peer.send(onWire(new Uint8Array(13)));
      await vi.waitFor(() => expect(port.statistics.rxDropped).toBe(1));
    });
  });

  it('what is no stream of frames ends it, and says so', async () => {
    await withPort(async (port, peer) => {
      const { promise, resolve } = Promise.withResolvers<string | undefined>();
      port.onEnd(resolve);
      peer.send(new TextEncoder().encode('GET / HTTP/1.1'));
      expect(await promise).toMatch(/no stream of frames/);
    });
  });

  it('a peer that left is told of once; what is transmitted then is dropped', async () => {
    await withPort(async (port, peer) => {
      const ends: (string | undefined)[] = [];
      port.onEnd((reason) => void ends.push(reason));
      peer.close();
      await vi.waitFor(() => expect(ends).toEqual([undefined]));
      port.transmit(new BytesFrame().set(makeFrame(mac(1), mac(2), 60)));
      port.flush();
      expect(port.statistics.txDropped).toBe(1);
    });
  });

  it('§5.1.9.2.1 frames are finished before they leave', async () => {
    await withPort(async (port, peer) => {
      const chunks: Uint8Array[] = [];
      peer.onData((bytes) => void chunks.push(bytes));
      const frame = makeFrame(mac(1), mac(2), 64).fill(0, 14);
      frame[20] = 0x12;
      const offload = {
        flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
        gsoType: 0,
        hdrLen: 0,
        gsoSize: 0,
        csumStart: 14,
        csumOffset: 16,
      };
      port.transmit(new BytesFrame().set(frame, 0, frame.length, offload));
      port.flush();
      await vi.waitFor(() => expect(chunks.length).toBe(1));
      const sent = chunks[0]!.subarray(4);
      expect([sent[30], sent[31]]).toEqual([0xed, 0xff]);
    });
  });

  it('two switches joined by a stream are one network', async () => {
    const [ours, theirs] = socketPair();
    const networks = [createLearningSwitch(), createLearningSwitch()] as const;
    const ports = [ours, theirs].map((fd) => createStreamPort(UnixStream.fromFd(fd)));
    const cables = ports.map((port, index) => joinPorts(networks[index]!.addPort('trunk'), port));
    const [a, b] = networks.map((network) => createHostPort(network, 'host'));
    const seen: string[] = [];
    b!.onFrame((bytes) => void seen.push(hex(bytes)));
    const frame = makeFrame(mac(9), mac(8), 100);
    a!.send(frame);
    a!.kick();
    await vi.waitFor(() => expect(seen).toEqual([hex(frame)]));
    for (const each of [...cables, ...ports, a!, b!]) each[Symbol.dispose]();
  });
});
