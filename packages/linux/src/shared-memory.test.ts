import { ftruncateSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { closeFd, openFdCount } from './fd.ts';
import { SHARED_MAPPING_SIZE_MAX, mapShared, memfdCreate, memoryPageSize } from './shared-memory.ts';
import { startProgram } from './testing/child-process.ts';
import { HugePages } from './testing/huge-pages.ts';
import { runProgram } from './testing/run-program.ts';
import { describeWithFfi } from './testing/describe-with-ffi.ts';
import { PLAIN_WORD, SUM16_INDEX, SUM_WORD, addTogether } from './testing/peer-program.ts';

const SIZE = 8192;
const PEER = new URL('./testing/peer-program.ts', import.meta.url);

describeWithFfi('shared memory', () => {
  it('memfd_create(2) gives zeroed memory that two mappings share', () => {
    const before = openFdCount();
    const fd = memfdCreate('test', SIZE);
    using one = mapShared(fd, SIZE);
    using two = mapShared(fd, SIZE);
    closeFd(fd);
    const a = new Uint8Array(one.buffer);
    const b = new Uint8Array(two.buffer);
    expect(one.buffer.byteLength).toBe(SIZE);
    expect(a.every((byte) => byte === 0)).toBe(true);
    a[4097] = 0x5a;
    expect(b[4097]).toBe(0x5a);
    expect(openFdCount()).toBe(before);
  });

  it('maps at an offset', () => {
    const fd = memfdCreate('test', SIZE);
    using whole = mapShared(fd, SIZE);
    using second = mapShared(fd, 4096, { offset: 4096 });
    closeFd(fd);
    new Uint8Array(second.buffer)[0] = 7;
    expect(new Uint8Array(whole.buffer)[4096]).toBe(7);
  });

  it('refuses memory that its owner may shrink, unless told', () => {
    const fd = memfdCreate('test', SIZE, { seal: false });
    expect(() => mapShared(fd, SIZE)).toThrow(expect.objectContaining({ code: 'EPERM', syscall: 'mmap' }));
    expect(() => mapShared(fd, SIZE)).toThrow(/F_SEAL_SHRINK/);
    using mapping = mapShared(fd, SIZE, { allowShrink: true });
    expect(mapping.buffer.byteLength).toBe(SIZE);
    closeFd(fd);
  });

  it('sealed memory can neither shrink nor grow', () => {
    const fd = memfdCreate('test', SIZE);
    expect(() => ftruncateSync(fd, 4096)).toThrow(/EPERM/);
    expect(() => ftruncateSync(fd, SIZE * 2)).toThrow(/EPERM/);
    closeFd(fd);
  });

  it('refuses a range beyond the end, which would fault', () => {
    const fd = memfdCreate('test', SIZE);
    expect(() => mapShared(fd, SIZE + 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => mapShared(fd, SIZE, { offset: 4096 })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    closeFd(fd);
  });

  it('refuses a view over 4 GiB before the runtime can abort on it', () => {
    const fd = memfdCreate('test', SHARED_MAPPING_SIZE_MAX + 4096);
    expect(() => mapShared(fd, SHARED_MAPPING_SIZE_MAX + 1)).toThrow(RangeError);
    expect(() => mapShared(fd, 0)).toThrow(RangeError);
    expect(() => mapShared(fd, 4096, { offset: 100 })).toThrow(RangeError);
    using largest = mapShared(fd, SHARED_MAPPING_SIZE_MAX);
    const words = new Uint32Array(largest.buffer);
    words[words.length - 1] = 1;
    expect(words.at(-1)).toBe(1);
    closeFd(fd);
  });

  it('revoke leaves stale views readable as zeros and cut off from the memory', () => {
    const fd = memfdCreate('test', SIZE);
    const revoked = mapShared(fd, SIZE);
    using kept = mapShared(fd, SIZE);
    closeFd(fd);
    const stale = new Uint8Array(revoked.buffer);
    const live = new Uint8Array(kept.buffer);
    live.fill(0xee);
    revoked.revoke();
    revoked.revoke();
    expect(revoked.revoked).toBe(true);
    expect(stale.every((byte) => byte === 0)).toBe(true);
    stale[0] = 1;
    expect(live[0]).toBe(0xee);
  });

  it('revoke takes nothing of the data that this process may have (RLIMIT_DATA)', () => {
    const program = `
      import { readFileSync } from 'node:fs';
      import { mapShared, memfdCreate } from '@virtlab/linux';
      const dataSize = () => Number(/VmData:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
      const size = 2 ** 32;
      const fd = memfdCreate('large', size);
      const mappings = [mapShared(fd, size), mapShared(fd, size)];
      const views = mappings.map(({ buffer }) => new Uint8Array(buffer));
      views[0][5] = 9;
      const before = dataSize();
      for (const mapping of mappings) mapping.revoke();
      views[0][7] = 1;
      const isUncounted = dataSize() - before < size / 16;
      console.log(isUncounted, views[0][5], views[1][7], views[0][size - 1], new Uint8Array(mapShared(fd, 4096).buffer)[5]);
    `;
    expect(runProgram(program, '-d 2097152')).toBe('true 0 0 0 9');
  });

  it('address ranges are given back when their buffers are garbage, and not before', () => {
    const program = `
      import { readFileSync } from 'node:fs';
      import { mapShared, memfdCreate } from '@virtlab/linux';
      const ranges = () => readFileSync('/proc/self/maps', 'utf8').split('memfd:garbage').length - 1;
      const collect = async () => {
        for (let i = 0; i < 5; i++) {
          gc();
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const fd = memfdCreate('garbage', 4096);
      const view = new Uint8Array(mapShared(fd, 4096).buffer);
      for (let i = 0; i < 100; i++) mapShared(fd, 4096);
      const before = ranges();
      await collect();
      view[0] = 1;
      console.log(before, ranges(), view[0]);
    `;
    const [before, after, value] = runProgram(program).split(' ').map(Number);
    expect(before).toBe(101);
    expect(after).toBeLessThan(20);
    expect(value).toBe(1);
  });

  it('another process reaches the same bytes', async () => {
    const before = openFdCount();
    const peer = startProgram(PEER);
    const fd = memfdCreate('test', SIZE);
    using mapping = mapShared(fd, SIZE);
    peer.channel.send({ op: 'fill', size: SIZE, count: 0xa5 }, [fd]);
    closeFd(fd);
    expect((await peer.channel.next())?.value).toMatchObject({ ok: true, pid: peer.process.pid });
    expect(new Uint8Array(mapping.buffer).every((byte) => byte === 0xa5)).toBe(true);
    expect(await peer.stop()).toBe(0);
    expect(openFdCount()).toBe(before);
  });

  it('Atomics.add on a view is exact against another process, 32 and 16 bits wide', async () => {
    const count = 200_000;
    const peer = startProgram(PEER);
    const fd = memfdCreate('test', SIZE);
    using mapping = mapShared(fd, SIZE);
    peer.channel.send({ op: 'add', size: SIZE, count }, [fd]);
    closeFd(fd);
    addTogether(mapping.buffer, count);
    expect((await peer.channel.next())?.value).toMatchObject({ ok: true });
    const words = new Int32Array(mapping.buffer);
    expect(words[SUM_WORD]).toBe(2 * count);
    expect(new Uint16Array(mapping.buffer)[SUM16_INDEX]).toBe((2 * count) % 65536);
    expect(words[PLAIN_WORD]).toBeLessThanOrEqual(2 * count);
    expect(await peer.stop()).toBe(0);
  });

  it('a peer that sends unsealed memory is refused across processes', async () => {
    const peer = startProgram(PEER);
    const fd = memfdCreate('test', SIZE, { seal: false });
    peer.channel.send({ op: 'fill', size: SIZE, count: 1 }, [fd]);
    closeFd(fd);
    expect((await peer.channel.next())?.value).toMatchObject({ ok: false, code: 'EPERM' });
    await peer.stop();
  });
});

const noHugePages = HugePages.unavailable();
// A machine may have no room for them, or not allow it: nothing that could be installed.
describe.skipIf(noHugePages !== undefined)(
  `huge pages${noHugePages === undefined ? '' : ` (${noHugePages})`}`,
  () => {
    it('are refused however they are sealed: a hole in them gives them back, and a touch of it may then be fatal', () => {
      using pages = new HugePages(2);
      const fd = pages.memfd(2);
      expect(() => mapShared(fd, pages.size)).toThrow(expect.objectContaining({ code: 'EPERM' }));
      expect(() => mapShared(fd, pages.size)).toThrow(/huge pages/);
      closeFd(fd);
    });

    it('who takes them maps and revokes whole ones, whatever part is asked for', () => {
      using pages = new HugePages(2);
      const fd = pages.memfd(2);
      expect(memoryPageSize(fd)).toBe(pages.size);
      expect(() => mapShared(fd, 4096, { offset: 4096, allowShrink: true })).toThrow(RangeError);
      using kept = mapShared(fd, 2 * pages.size, { allowShrink: true });
      const part = mapShared(fd, 4096, { offset: pages.size, allowShrink: true });
      closeFd(fd);
      const [live, stale] = [new Uint8Array(kept.buffer), new Uint8Array(part.buffer)];
      expect(stale.length).toBe(4096);
      live.fill(0xee);
      expect(stale[0]).toBe(0xee);
      part.revoke();
      expect(stale.every((byte) => byte === 0)).toBe(true);
      stale[0] = 1;
      expect(live[pages.size]).toBe(0xee);
    });

    it('memory of others has plain pages, and what has no seals is not asked', () => {
      const fd = memfdCreate('plain', SIZE);
      expect(memoryPageSize(fd)).toBe(4096);
      closeFd(fd);
      expect(memoryPageSize(0)).toBe(4096);
    });
  },
);
