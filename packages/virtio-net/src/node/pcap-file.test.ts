import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { BytesFrame } from '../frame-views.ts';
import { createHostPort } from '../host-port.ts';
import { createLearningSwitch } from '../learning-switch.ts';
import { BROADCAST, hex, mac, makeFrame } from '../testing/frames.ts';
import { createPcapFile } from './pcap-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtio-net-pcap-'));
afterAll(() => rmSync(folder, { recursive: true }));
let fileCount = 0;
const newPath = (): string => join(folder, `${(fileCount += 1)}.pcap`);

const hasTshark = spawnSync('tshark', ['--version']).status === 0;
const isPeerRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';

const view = (bytes: Uint8Array): BytesFrame => new BytesFrame().set(bytes);

describe('file', () => {
  it('holds the header and each frame, byte for byte (draft-ietf-opsawg-pcap §4, §5)', async () => {
    const path = newPath();
    let nowMs = 1_700_000_000_123.5;
    const capture = createPcapFile(path, { now: () => nowMs });
    capture.capture(view(Uint8Array.of(1, 2, 3)));
    nowMs = 1_700_000_001_000;
    capture.capture(view(Uint8Array.of(0xff)));
    await capture.close();
    expect(hex(readFileSync(path))).toBe(
      '4d3cb2a1' +
        '0200' +
        '0400' +
        '00000000' +
        '00000000' +
        '00000400' +
        '01000000' +
        '00f15365' +
        'e0755c07' +
        '03000000' +
        '03000000' +
        '010203' +
        '01f15365' +
        '00000000' +
        '01000000' +
        '01000000' +
        'ff',
    );
    expect(capture.statistics).toEqual({ captured: 2, dropped: 0 });
  });

  it('is a valid empty capture when nothing came', async () => {
    const path = newPath();
    await createPcapFile(path).close();
    expect(readFileSync(path).length).toBe(24);
  });

  it('holds everything that was captured, through many buffers, by the time of close', async () => {
    const path = newPath();
    await using capture = createPcapFile(path, { bufferSize: 128 * 1024, now: () => 0 });
    const frames = Array.from({ length: 2000 }, (_, index) =>
      makeFrame(BROADCAST, mac(1), 60 + (index % 1400), index),
    );
    for (const [index, frame] of frames.entries()) {
      capture.capture(view(frame));
      if (index % 50 === 49) await new Promise((resolve) => void setImmediate(resolve));
    }
    await capture.close();
    const { captured, dropped } = capture.statistics;
    expect(captured + dropped).toBe(frames.length);
    const bytes = readFileSync(path);
    let [at, count, next] = [24, 0, 0];
    while (at < bytes.length) {
      const size = bytes.readUInt32LE(at + 8);
      const found = hex(bytes.subarray(at + 16, at + 16 + size));
      next = frames.findIndex((frame, index) => index >= next && hex(frame) === found) + 1;
      expect(next).toBeGreaterThan(0);
      at += 16 + size;
      count += 1;
    }
    expect([at, count]).toEqual([bytes.length, captured]);
  });

  it('drops and counts what comes faster than it is written, in a bounded memory', async () => {
    const path = newPath();
    const capture = createPcapFile(path, { bufferSize: 128 * 1024 });
    for (let index = 0; index < 300; index += 1) capture.capture(view(new Uint8Array(1000)));
    expect(capture.statistics).toEqual({ captured: 129, dropped: 171 });
    await capture.close();
    expect(readFileSync(path).length).toBe(24 + 129 * 1016);
    capture.capture(view(new Uint8Array(1000)));
    expect(capture.statistics.dropped).toBe(172);
    await capture.close();
  });

  it('a disk that is full ends the capture and nothing else', async () => {
    const capture = createPcapFile('/dev/full');
    capture.capture(view(new Uint8Array(60)));
    await expect(capture.close()).rejects.toMatchObject({ code: 'EIO', cause: { code: 'ENOSPC' } });
    expect(capture.failure).toMatchObject({ code: 'ENOSPC' });
  });

  it('a failure is told when it happens, once', async () => {
    const failures: Error[] = [];
    const failed = Promise.withResolvers<void>();
    const onFailure = (error: Error): void => {
      failures.push(error);
      failed.resolve();
    };
    const capture = createPcapFile('/dev/full', { onFailure });
    expect(failures).toEqual([]);
    await failed.promise;
    capture.capture(view(new Uint8Array(60)));
    await expect(capture.close()).rejects.toMatchObject({ code: 'EIO' });
    expect(failures).toEqual([expect.objectContaining({ code: 'ENOSPC' })]);
    expect(capture.statistics).toEqual({ captured: 0, dropped: 1 });
  });

  it('a path that cannot be opened, and bad options, are refused at once', () => {
    expect(() => createPcapFile(join(folder, 'no', 'folder'))).toThrow('ENOENT');
    expect(() => createPcapFile(newPath(), { bufferSize: 1000 })).toThrow(RangeError);
  });
});

describe('a pipe', () => {
  const newPipe = (): string => {
    const path = newPath();
    expect(spawnSync('mkfifo', [path]).status).toBe(0);
    return path;
  };
  const openReader = (path: string): number => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);

  it('that nobody reads is refused at once', () => {
    expect(() => createPcapFile(newPipe())).toThrow(expect.objectContaining({ code: 'ENXIO' }));
  });

  it('gets everything, at the speed of its reader', async () => {
    const path = newPipe();
    const reader = openReader(path);
    const capture = createPcapFile(path, { now: () => 0 });
    const frame = makeFrame(BROADCAST, mac(1), 1500);
    for (let index = 0; index < 500; index += 1) capture.capture(view(frame));
    const closed = capture.close();
    const chunks: Buffer[] = [];
    const chunk = Buffer.alloc(1 << 16);
    // It is full and waits, and the loop goes on.
    for (let size = -1; size !== 0;) {
      await new Promise((resolve) => void setImmediate(resolve));
      try {
        size = readSync(reader, chunk);
        chunks.push(Buffer.from(chunk.subarray(0, size)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
    }
    await closed;
    closeSync(reader);
    const bytes = Buffer.concat(chunks);
    expect(bytes.length).toBe(24 + 500 * 1516);
    expect(hex(bytes.subarray(-1500))).toBe(hex(frame));
  });

  it('whose reader takes nothing does not keep close waiting for ever', async () => {
    const path = newPipe();
    const reader = openReader(path);
    const capture = createPcapFile(path);
    for (let index = 0; index < 200; index += 1) capture.capture(view(new Uint8Array(1500)));
    await expect(capture.close()).rejects.toMatchObject({ code: 'EIO', cause: { code: 'EAGAIN' } });
    closeSync(reader);
  });

  it('whose reader goes away ends the capture and nothing else', async () => {
    const path = newPipe();
    const reader = openReader(path);
    const failed = Promise.withResolvers<Error>();
    const capture = createPcapFile(path, { onFailure: failed.resolve });
    closeSync(reader);
    capture.capture(view(new Uint8Array(1500)));
    expect(await failed.promise).toMatchObject({ code: 'EPIPE' });
    await expect(capture.close()).rejects.toMatchObject({ code: 'EIO' });
  });
});

describe('tshark (Debian package tshark)', () => {
  it.runIf(isPeerRequired)('is there', () => {
    expect(hasTshark).toBe(true);
  });

  it.runIf(hasTshark)('reads what a switch captured: number, sizes, addresses, times', async () => {
    const path = newPath();
    const before = Date.now() / 1000;
    const capture = createPcapFile(path);
    const network = createLearningSwitch({ capture });
    const [a, b] = [createHostPort(network, 'a'), createHostPort(network, 'b')];
    a.send(makeFrame(BROADCAST, mac(1), 60));
    b.send(makeFrame(mac(1), mac(2), 1514));
    a.send(makeFrame(mac(2), mac(1), 65_549));
    a.kick();
    await capture.close();
    const fields = ['frame.time_epoch', 'frame.len', 'frame.cap_len', 'eth.dst', 'eth.src', 'eth.type'];
    const { stdout, status } = spawnSync(
      'tshark',
      ['-r', path, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])],
      { encoding: 'utf8' },
    );
    expect(status).toBe(0);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => line.split('\t'));
    expect(lines.map((line) => line.slice(1))).toEqual([
      ['60', '60', 'ff:ff:ff:ff:ff:ff', '02:00:00:00:00:01', '0x88b5'],
      ['1514', '1514', '02:00:00:00:00:01', '02:00:00:00:00:02', '0x88b5'],
      ['65549', '65549', '02:00:00:00:00:02', '02:00:00:00:00:01', '0x88b5'],
    ]);
    const times = lines.map(([time]) => Number(time));
    expect(times.toSorted((x, y) => x - y)).toEqual(times);
    expect(times[0]! - before).toBeGreaterThan(-60);
    expect(times[0]! - before).toBeLessThan(60);
  });
});
