import { createXenstore } from '@virtlab/xenstore';
import { domId } from '@virtlab/abi/brands';
import { describe, expect, it } from 'vitest';
import { transact } from './transact.ts';

describe('transact', () => {
  it('a conflict is retried, at once and then after pauses that grow to 8 ms', async () => {
    let left = 10;
    const daemon = createXenstore({ forceConflict: () => (left -= 1) >= 0 });
    const store = daemon.connect(domId(0));
    const pauses: number[] = [];
    const pause = async (delayMs: number): Promise<void> => void pauses.push(delayMs);
    await transact(store, '/a', (tx) => tx.write('/a', '1'), pause);
    expect(pauses).toEqual([0, 0, 1, 2, 4, 8, 8, 8, 8, 8]);
    expect(await store.readText('/a')).toBe('1');
    daemon.assertQuiescent();
  });

  it('after 64 in a row it says so, and has written nothing; without a clock it asks the store meanwhile', async () => {
    const daemon = createXenstore({ forceConflict: () => true });
    const store = daemon.connect(domId(0));
    const failing = transact(store, '/a', (tx) => tx.write('/a', '1'));
    await expect(failing).rejects.toMatchObject({ name: 'XenbusError', code: 'EAGAIN', path: '/a' });
    expect(await store.exists('/a')).toBe(false);
    daemon.assertQuiescent();
  });

  it('what the body rejects with is passed on', async () => {
    const store = createXenstore().connect(domId(0));
    const failing = transact(store, '/a', () => Promise.reject(new TypeError('no')));
    await expect(failing).rejects.toThrow(TypeError);
  });

  it('xenstored C: a transaction that sees half of a removal (EIO) is made again', async () => {
    const daemon = createXenstore();
    const [store, other] = [daemon.connect(domId(0)), daemon.connect(domId(0))];
    await store.write('/a/b/c', '1');
    let attempts = 0;
    await transact(store, '/a', async (tx) => {
      attempts += 1;
      await tx.directory('/a');
      if (attempts === 1) await other.rm('/a/b');
      if (attempts === 1) await other.write('/a/b', 'again');
      await tx.rm('/a/b');
    });
    expect(await store.exists('/a/b')).toBe(false);
  });

  it('a connection that is lost is not retried', async () => {
    const store = createXenstore().connect(domId(0));
    store.close();
    await expect(transact(store, '/a', (tx) => tx.write('/a', '1'))).rejects.toMatchObject({ code: 'EIO' });
  });
});
