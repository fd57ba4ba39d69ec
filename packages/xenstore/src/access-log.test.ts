import { domId } from '@virtlab/abi/brands';
import { XS_MKDIR } from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import { type CreateXenstoreOptions, type InProcessXenstore, createXenstore } from './create-xenstore.ts';
import { ManualClock } from './manual-clock.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { escapeBytes } from './message-text.ts';
import { encodePacket } from './wire.ts';

const DOM0 = domId(0);
const TIME = '2026-01-01T00:00:00.000Z';
const START = Date.parse(TIME);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A daemon whose access log and trace are kept, without the time that stands still. */
function logged(options: CreateXenstoreOptions = {}): {
  xenstore: InProcessXenstore;
  clock: ManualClock;
  log: string[];
  trace: string[];
} {
  const clock = new ManualClock(START);
  const log: string[] = [];
  const trace: string[] = [];
  const cut = (line: string): string => line.slice(TIME.length + 1);
  const xenstore = createXenstore({
    clock,
    accessLog: (line) => log.push(cut(line)),
    trace: (line) => trace.push(cut(line)),
    ...options,
  });
  return { xenstore, clock, log, trace };
}

describe('access log', () => {
  it('has a line a request: connection, domain, transaction, operation, path, sizes, outcome', async () => {
    const { xenstore, log } = logged();
    const client = xenstore.connect(DOM0);
    await client.write('/a/b', 'hello');
    await client.read('/a/b');
    await client.transaction((tx) => tx.mkdir('/c'));
    await client.read('/none').catch(() => undefined);
    expect(log).toEqual([
      'conn 1 dom 0 opened memory',
      'conn 1 dom 0 tx 0 WRITE /a/b in 10 out 3 OK',
      'conn 1 dom 0 tx 0 READ /a/b in 5 out 5 OK',
      'conn 1 dom 0 tx 0 TRANSACTION_START in 1 out 2 OK',
      'conn 1 dom 0 tx 1 MKDIR /c in 3 out 3 OK',
      'conn 1 dom 0 tx 1 TRANSACTION_END T in 2 out 3 OK',
      'conn 1 dom 0 tx 0 READ /none in 6 out 7 ENOENT',
    ]);
    xenstore.close();
  });

  it('says which node made a transaction fail, who changed it and how long ago', async () => {
    const { xenstore, clock, log } = logged();
    const tools = xenstore.connect(DOM0);
    const guest = xenstore.connect(domId(5));
    await tools.mkdir('/g');
    await tools.setPermissions('/g', [{ domid: 5, access: 'n' }]);
    const losing = tools.transaction(
      async (tx) => {
        await tx.read('/g');
        await guest.write('/g', 'mine');
        clock.advance(12);
      },
      { retries: 0 },
    );
    await expect(losing).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(log.at(-1)).toBe(
      'conn 1 dom 0 tx 1 TRANSACTION_END T in 2 out 7 EAGAIN /g changed by conn 2 dom 5 12 ms ago, after it was read',
    );
    await tools.mkdir('/g'); // the cause is forgotten with its request
    expect(log.at(-1)).toBe('conn 1 dom 0 tx 0 MKDIR /g in 3 out 3 OK');
    xenstore.close();
  });

  it('says which quota refused, for whom, and what it would have come to; and that a fault did', async () => {
    const { xenstore, log } = logged({ quotas: { nodes: 2 }, faults: { eagain: 1 } });
    const tools = xenstore.connect(DOM0);
    const guest = xenstore.connect(domId(5));
    await tools.mkdir('/g');
    await tools.setPermissions('/g', [{ domid: 5, access: 'n' }]);
    for (let i = 0; i < 3; i++) await guest.mkdir(`/g/${i}`).catch(() => undefined);
    expect(log.at(-1)).toMatch(
      /^conn 2 dom 5 tx 0 MKDIR \/g\/\d in 5 out 7 ENOSPC quota nodes of dom 5: \d of 2$/,
    );
    await tools.transaction(() => Promise.resolve(), { retries: 0 }).catch(() => undefined);
    expect(log.at(-1)).toContain('TRANSACTION_END T in 2 out 7 EAGAIN forced by a fault');
    xenstore.close();
  });

  it('says why a connection ended', async () => {
    const { xenstore, log } = logged({ limits: { backlogSize: 1000 } });
    const closing = async (bytes: Uint8Array): Promise<void> => {
      const [end, serverEnd] = memoryStreamPair({ capacitySize: 64 });
      end.attach({ onData: () => undefined, onDrain: () => undefined, onClose: () => undefined });
      xenstore.server.accept(serverEnd, { domid: 0, privileged: true });
      if (bytes.length > 0) end.send(bytes);
      else end.close();
      await turn();
    };
    await closing(new Uint8Array(0));
    await closing(new Uint8Array(16).fill(0xff));
    const guest = xenstore.connect(domId(5));
    xenstore.releaseDomain(domId(5));
    xenstore.connect(DOM0);
    xenstore.close();
    expect(log.filter((line) => line.includes('closed'))).toEqual([
      'conn 1 dom 0 closed: the client ended it',
      'conn 2 dom 0 closed: it broke the protocol: payload of 4294967295 bytes, at most 4096',
      'conn 3 dom 5 closed: its domain is gone',
      'conn 4 dom 0 closed: the daemon ends',
    ]);
    guest.close();
  });

  it('names changes that many watches hear of', async () => {
    const { xenstore, log } = logged();
    const client = xenstore.connect(DOM0);
    for (let i = 0; i < 16; i++) await client.watch('/w', undefined, { token: `t${i}` });
    await client.write('/w/x', '');
    expect(log).toContain('/w/x heard by 16 watches');
    await client.write('/elsewhere', '');
    expect(log.filter((line) => line.includes('heard by'))).toHaveLength(1);
    xenstore.close();
  });

  it('one line is one line, whatever a client sends', async () => {
    const { xenstore, log, trace } = logged();
    const [end, serverEnd] = memoryStreamPair();
    xenstore.server.accept(serverEnd, { domid: 0, privileged: true });
    end.send(encodePacket(XS_MKDIR, 1, 0, '/a\nb\x01\xff\\\0'));
    end.send(encodePacket(77, 1, 0, ''));
    await turn();
    expect(log.at(-2)).toBe('conn 1 dom 0 tx 0 MKDIR /a\\nb\\001\\377\\\\ in 8 out 7 EINVAL');
    expect(log.at(-1)).toBe('conn 1 dom 0 tx 0 #77 in 0 out 7 ENOSYS');
    for (const line of [...log, ...trace]) expect(line).toMatch(/^[\x20-\x7e]*$/);
    xenstore.close();
  });

  it('ends when it is told to, and nothing is said any more', async () => {
    const { xenstore, log } = logged();
    const client = xenstore.connect(DOM0);
    xenstore.server.monitor.logTo(undefined);
    const { length } = log;
    await client.write('/a', '');
    expect(log).toHaveLength(length);
    xenstore.close();
  });
});

describe('trace', () => {
  it('shows every message in and out, decoded, long values cut', async () => {
    const { xenstore, trace } = logged();
    const client = xenstore.connect(DOM0);
    await client.watch('/a', undefined, { token: 't' });
    await client.write('/a', 'x'.repeat(200));
    await client.read('/none').catch(() => undefined);
    expect(trace).toEqual([
      'in conn 1 dom 0 WATCH req 2 tx 0 len 5 "/a\\000t\\000"',
      'out conn 1 dom 0 WATCH req 2 tx 0 len 3 "OK\\000"',
      'out conn 1 dom 0 WATCH_EVENT req 0 tx 0 len 5 "/a\\000t\\000"',
      `in conn 1 dom 0 WRITE req 3 tx 0 len 203 "/a\\000${'x'.repeat(93)}" and 107 more`,
      'out conn 1 dom 0 WATCH_EVENT req 0 tx 0 len 5 "/a\\000t\\000"',
      'out conn 1 dom 0 WRITE req 3 tx 0 len 3 "OK\\000"',
      'in conn 1 dom 0 READ req 4 tx 0 len 6 "/none\\000"',
      'out conn 1 dom 0 ERROR req 4 tx 0 len 7 "ENOENT\\000"',
    ]);
    xenstore.close();
  });

  it('escapes as xenstore-ls does', () => {
    expect(escapeBytes('a\tb\nc\rd\\e\x00\x7f\x80"')).toBe('a\\tb\\nc\\rd\\\\e\\000\\177\\200"');
  });
});
