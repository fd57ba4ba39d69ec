import { describe, expect, it } from 'vitest';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { GroupFlush } from './group-flush.ts';

function rig() {
  const running: ((error: Error | null) => void)[] = [];
  const ended: [number, number][] = [];
  const errors: Error[] = [];
  const flush = new GroupFlush(
    (done) => running.push(done),
    (token, status) => ended.push([token, status]),
    (error) => errors.push(error),
  );
  return { flush, running, ended, errors };
}

describe('group flush', () => {
  it('is not acknowledged before the sync has ended', () => {
    const { flush, running, ended } = rig();
    flush.add(1);
    flush.submit();
    expect([running.length, ended]).toEqual([1, []]);
    running.shift()!(null);
    expect(ended).toEqual([[1, VIRTIO_BLK_S_OK]]);
  });

  it('of one batch shares one sync', () => {
    const { flush, running, ended } = rig();
    for (const token of [1, 2, 3]) flush.add(token);
    flush.submit();
    running.shift()!(null);
    expect([running.length, ended.length, flush.syncCount, flush.flushCount]).toEqual([0, 3, 1, 3]);
  });

  it('asked for during a sync waits for one that begins afterwards: the running one may have missed its writes', () => {
    const { flush, running, ended } = rig();
    flush.add(1);
    flush.submit();
    flush.add(2);
    flush.add(3);
    flush.submit();
    expect(running.length).toBe(1);
    running.shift()!(null);
    expect(ended.map(([token]) => token)).toEqual([1]);
    expect(running.length).toBe(1);
    running.shift()!(null);
    expect(ended.map(([token]) => token)).toEqual([1, 2, 3]);
  });

  it('fails for good after a failed sync: the kernel may have dropped the pages', async () => {
    const { flush, running, ended, errors } = rig();
    flush.add(1);
    flush.submit();
    flush.add(2);
    running.shift()!(new Error('EIO'));
    expect(ended).toEqual([
      [1, VIRTIO_BLK_S_IOERR],
      [2, VIRTIO_BLK_S_IOERR],
    ]);
    expect(errors).toHaveLength(1);
    expect(flush.add(3)).toBe(false);
    await flush.drain();
  });
});
