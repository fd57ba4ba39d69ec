import { domId } from '@virtlab/abi/brands';
import { XS_READ } from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import { XenstoreClient, XenstoreError } from './client.ts';
import { ScriptConnection } from './conformance-script.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { encodePacket } from './wire.ts';

const DOM0 = domId(0);

describe('XenstoreClient', () => {
  it('errors carry code, operation and path', async () => {
    const client = createXenstore().connect(DOM0);
    const error: unknown = await client.read('/none').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(XenstoreError);
    expect(error).toMatchObject({ code: 'ENOENT', op: 'READ', path: '/none', message: 'READ /none: ENOENT' });
    await expect(client.write('/a', 'x'.repeat(5000))).rejects.toMatchObject({ code: 'E2BIG' });
    await expect(client.read('/a\0b')).rejects.toThrow(TypeError);
    expect(await client.exists('/none')).toBe(false);
    expect(await client.exists('/tool')).toBe(true);
  });

  it('everything pending and later rejects with EIO and the reason when the connection is lost', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const watch = await client.watch('/w');
    const pending = [client.read('/tool'), client.write('/a', 'b')].map((request) =>
      expect(request).rejects.toMatchObject({
        code: 'EIO',
        message: expect.stringContaining('daemon closed'),
      }),
    );
    xenstore.close();
    await Promise.all(pending);
    expect(await client.closed).toBe('the daemon closed the connection');
    await expect(client.mkdir('/x')).rejects.toMatchObject({ code: 'EIO' });
    await watch.close();
    const events = watch[Symbol.asyncIterator]();
    expect(await events.next()).toMatchObject({ done: true });
  });

  it('close rejects what is pending, ends watches, and resolves closed without a reason', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    await client.watch('/w', () => undefined);
    const pending = client.read('/tool');
    client.close();
    client.close();
    await expect(pending).rejects.toMatchObject({ code: 'EIO' });
    expect(await client.closed).toBeUndefined();
    await new Promise((resolve) => setImmediate(resolve));
    expect(xenstore.statistics().connections).toEqual([]);
    xenstore.assertQuiescent();
  });

  it('a daemon that breaks the protocol is left', async () => {
    const [clientEnd, serverEnd] = memoryStreamPair();
    const client = new XenstoreClient(clientEnd);
    const daemon = new ScriptConnection(serverEnd);
    const request = client.read('/a');
    await daemon.next();
    daemon.sendBytes(encodePacket(XS_READ, 4711, 0, 'x'));
    await expect(request).rejects.toMatchObject({ code: 'EIO' });
    expect(await client.closed).toContain('no such request');
  });

  it('transaction: rejects with the body’s reason and leaves nothing open', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    await expect(
      client.transaction(async (tx) => {
        await tx.write('/t', '1');
        throw new Error('changed my mind');
      }),
    ).rejects.toThrow('changed my mind');
    expect(await client.exists('/t')).toBe(false);
    xenstore.assertQuiescent();
  });

  it('transaction: retries are counted, a signal ends them, a tx is dead after its end', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    await client.write('/t', '0');
    let attempts = 0;
    const conflict = async (tx: { read(path: string): Promise<Uint8Array> }): Promise<void> => {
      attempts += 1;
      await tx.read('/t');
      await client.write('/t', String(attempts));
    };
    await expect(client.transaction(conflict, { retries: 2 })).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(attempts).toBe(3);
    const abort = new AbortController();
    await expect(
      client.transaction(
        async (tx) => {
          await conflict(tx);
          abort.abort(new Error('enough'));
        },
        { signal: abort.signal },
      ),
    ).rejects.toThrow('enough');
    const tx = await client.transaction((open) => Promise.resolve(open));
    await expect(tx.read('/t')).rejects.toMatchObject({ code: 'EINVAL' });
    xenstore.assertQuiescent();
  });

  it('watch: a handler hears events before the request that caused them settles, and none after close', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const heard: string[] = [];
    const watch = await client.watch('/w', ({ path }) => heard.push(path));
    await client.write('/w/a', '');
    expect(heard).toEqual(['/w', '/w/a']);
    const writing = client.write('/w/b', '');
    await watch.close();
    await writing;
    await client.write('/w/c', '');
    expect(heard).toEqual(['/w', '/w/a']);
    xenstore.assertQuiescent();
  });

  it('watch: registrations that share a token get their own events; a duplicate is EEXIST and harmless', async () => {
    const client = createXenstore().connect(DOM0);
    const heard: string[] = [];
    await client.watch('/a', ({ path }) => heard.push(`a:${path}`), { token: 't' });
    await client.watch('/b', ({ path }) => heard.push(`b:${path}`), { token: 't' });
    await expect(client.watch('/a', () => heard.push('dup'), { token: 't' })).rejects.toMatchObject({
      code: 'EEXIST',
    });
    heard.length = 0;
    await client.write('/a/x', '');
    await client.write('/b/x', '');
    expect(heard).toEqual(['a:/a/x', 'b:/b/x']);
  });

  it('watch: an iteration that is slow gets each path once', async () => {
    const client = createXenstore().connect(DOM0);
    const watch = await client.watch('/w');
    for (let i = 0; i < 50; i++) await client.write('/w/x', String(i));
    await client.write('/w/y', '');
    const paths: string[] = [];
    for await (const { path } of watch) {
      paths.push(path);
      if (path === '/w/y') break;
    }
    expect(paths).toEqual(['/w', '/w/x', '/w/y']);
  });

  it('resetWatches ends the watches of this connection', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const watch = await client.watch('/w');
    await client.resetWatches();
    xenstore.assertQuiescent();
    const paths: string[] = [];
    for await (const { path } of watch) paths.push(path);
    expect(paths).toEqual(['/w']);
    await watch.close();
  });

  it('assertQuiescent names who still holds what', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    await client.watch('/w', () => undefined, { token: 'tok' });
    expect(() => xenstore.assertQuiescent()).toThrow('domain 0 watches /w (tok)');
  });
});
