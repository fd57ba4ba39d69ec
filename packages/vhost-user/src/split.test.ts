import { VHOST_USER_PROTOCOL_F } from '@virtlab/abi/vhost-user';
import { EventFd, memfdCreate, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { expect, it } from 'vitest';
import { protocolFault } from './fault.ts';
import { BACKEND_REQUESTS } from './messages.ts';
import type {
  BackendReplyPayloads as BackendReplies,
  BackendRequestPayloads as BackendRequests,
  ReplyPayloads,
  RequestPayloads,
} from './messages.ts';
import { RequestReceiver } from './request-receiver.ts';
import { RequestSender } from './request-sender.ts';
import { CONTEXT, streamPair } from './testing/channel-pair.ts';
import { splitVhostUser } from './split.ts';
import { type SplitBench, closeAll, streamOf, withSplit } from './testing/split-bench.ts';

const ALL_PROTOCOL = Object.values(VHOST_USER_PROTOCOL_F).reduce(
  (bits, bit) => bits | (1n << BigInt(bit)),
  0n,
);
/** Without XEN_MMAP, which changes what regions look like. */
const PROTOCOL = ALL_PROTOCOL & ~(1n << BigInt(VHOST_USER_PROTOCOL_F.XEN_MMAP));
const REGION = { guestAddress: 0n, size: 4096n, userAddress: 0x1000n, mmapOffset: 0n };

async function ask<Name extends keyof RequestPayloads & keyof ReplyPayloads>(
  { sender }: SplitBench,
  name: Name,
  payload: RequestPayloads[Name],
  ...fds: readonly number[]
): Promise<ReplyPayloads[Name]> {
  const outcome = await sender.request(name, payload, fds);
  if (!outcome.ok) throw new Error(`${outcome.fault.code}: ${outcome.fault.message}`);
  outcome.value.fds[Symbol.dispose]();
  return outcome.value.value;
}

describeWithFfi('splitter: where requests go', () => {
  it('those about a ring to the session that has it, with their descriptors', async () => {
    await withSplit([{}, {}], async (bench) => {
      using event = EventFd.create();
      await ask(bench, 'SET_VRING_NUM', { index: 0, num: 8 });
      await ask(bench, 'SET_VRING_BASE', { index: 1, num: 3 });
      await ask(bench, 'SET_VRING_CALL', { index: 2, hasFd: true }, event.fd);
      await ask(bench, 'SET_VRING_KICK', { index: 3, hasFd: true }, event.fd);
      await ask(bench, 'SET_VRING_ERR', { index: 3, hasFd: false });
      await ask(bench, 'SET_VRING_ENABLE', { index: 2, num: 1 });
      expect(await ask(bench, 'GET_VRING_BASE', { index: 3, num: 9 })).toEqual({ index: 3, num: 9 });
      expect(bench.seen).toEqual([
        '0 SET_VRING_NUM 0',
        '1 SET_VRING_BASE 1',
        '0 SET_VRING_CALL 2 +1',
        '1 SET_VRING_KICK 3 +1',
        '1 SET_VRING_ERR 3',
        '0 SET_VRING_ENABLE 2',
        '1 GET_VRING_BASE 3',
      ]);
    });
  });

  it('those about the device to all, with their descriptors', async () => {
    await withSplit([{}, {}, {}], async (bench) => {
      const fd = memfdCreate('region', 4096);
      await ask(bench, 'SET_OWNER', undefined);
      await ask(bench, 'SET_PROTOCOL_FEATURES', PROTOCOL);
      await ask(bench, 'SET_MEM_TABLE', [REGION, { ...REGION, guestAddress: 4096n }], fd, fd);
      await ask(bench, 'ADD_MEM_REG', REGION, fd);
      await ask(bench, 'SET_LOG_BASE', { size: 4096n, offset: 0n }, fd);
      await ask(bench, 'SET_CONFIG', { offset: 0, bytes: new Uint8Array(1), isMigration: false });
      await ask(bench, 'SET_STATUS', 3n);
      await ask(bench, 'NET_SET_MTU', 1500n);
      closeAll(fd);
      const names = ['SET_OWNER', 'SET_PROTOCOL_FEATURES', 'SET_MEM_TABLE +2', 'ADD_MEM_REG +1'];
      names.push('SET_LOG_BASE +1', 'SET_CONFIG', 'SET_STATUS', 'NET_SET_MTU');
      expect(bench.seen.toSorted()).toEqual(
        names.flatMap((name) => [0, 1, 2].map((member) => `${member} ${name}`)).toSorted(),
      );
    });
  });

  it('a request is done by all before the next is looked at, also without acknowledgements', async () => {
    const gate = Promise.withResolvers<undefined>();
    const slow = {
      SET_OWNER: async () => {
        await gate.promise;
        return { ok: true, value: undefined } as const;
      },
    };
    await withSplit([{}, slow], async (bench) => {
      expect(bench.sender.post('SET_OWNER', undefined)).toBeUndefined();
      const base = ask(bench, 'GET_VRING_BASE', { index: 0, num: 0 });
      await turns();
      expect(bench.seen).toEqual(['0 SET_OWNER']);
      gate.resolve(undefined);
      await base;
      expect(bench.seen).toEqual(['0 SET_OWNER', '0 GET_VRING_BASE 0']);
    });
  });
});

describeWithFfi('splitter: what the answers make together', () => {
  const features = (bits: bigint) => () => ({ ok: true, value: bits }) as const;

  it('features are those of all sessions', async () => {
    const scripts = [
      { GET_FEATURES: features(0b1110n), GET_PROTOCOL_FEATURES: features(0b0111n) },
      { GET_FEATURES: features(0b0111n), GET_PROTOCOL_FEATURES: features(0b1101n) },
    ];
    await withSplit(scripts, async (bench) => {
      expect(await ask(bench, 'GET_FEATURES', undefined)).toBe(0b0110n);
      expect(await ask(bench, 'GET_PROTOCOL_FEATURES', undefined)).toBe(0b0101n);
    });
  });

  it('§2.1 the status is what all have, and NEEDS_RESET what any has', async () => {
    const scripts = [{ GET_STATUS: features(0x0fn) }, { GET_STATUS: features(0x47n) }];
    await withSplit(scripts, async (bench) => {
      await ask(bench, 'SET_PROTOCOL_FEATURES', PROTOCOL);
      expect(await ask(bench, 'GET_STATUS', undefined)).toBe(0x47n);
    });
  });

  it('the number of queues, slots and the area for what is in flight are those of one', async () => {
    const area = { size: 64n, offset: 0n, queueCount: 4, queueSize: 16 };
    const give = () => ({ ok: true, value: area, fds: [memfdCreate('in flight', 64)] }) as const;
    await withSplit([{ GET_INFLIGHT_FD: give }, {}], async (bench) => {
      await ask(bench, 'SET_PROTOCOL_FEATURES', PROTOCOL);
      expect(await ask(bench, 'GET_QUEUE_NUM', undefined)).toBe(4n);
      expect(await ask(bench, 'GET_MAX_MEM_SLOTS', undefined)).toBe(7n);
      const outcome = await bench.sender.request('GET_INFLIGHT_FD', { ...area, size: 0n });
      expect(outcome).toMatchObject({ ok: true, value: { value: area, fds: { count: 1 } } });
      if (outcome.ok) outcome.value.fds[Symbol.dispose]();
      expect(bench.seen.slice(2).every((line) => line.startsWith('0'))).toBe(true);
    });
  });

  const refuse = () => ({ ok: false, fault: protocolFault('REFUSED', 'no') }) as const;

  it.each([0, 1])('a refusal of session %i is a refusal, and the connection lives on', async (member) => {
    const scripts = [0, 1].map((index) => (index === member ? { SET_STATUS: refuse } : {}));
    await withSplit(scripts, async (bench) => {
      await ask(bench, 'SET_PROTOCOL_FEATURES', PROTOCOL);
      await expect(ask(bench, 'SET_STATUS', 1n)).rejects.toThrow(/REFUSED/);
      await ask(bench, 'SET_OWNER', undefined);
    });
  });

  it('features and in-flight areas: asked first of who has started rings, and of nobody behind a refusal', async () => {
    const wants = { size: 64n, offset: 0n, queueCount: 1, queueSize: 16 };
    await withSplit([{}, { SET_FEATURES: refuse, SET_INFLIGHT_FD: refuse }], async (bench) => {
      await ask(bench, 'SET_PROTOCOL_FEATURES', PROTOCOL);
      await ask(bench, 'SET_VRING_KICK', { index: 1, hasFd: false });
      bench.seen.length = 0;
      const fd = memfdCreate('in flight', 64);
      await expect(ask(bench, 'SET_FEATURES', 1n)).rejects.toThrow(/REFUSED/);
      await expect(ask(bench, 'SET_INFLIGHT_FD', wants, fd)).rejects.toThrow(/REFUSED/);
      expect(bench.seen).toEqual([]);
      await ask(bench, 'GET_VRING_BASE', { index: 1, num: 0 });
      await expect(ask(bench, 'SET_FEATURES', 1n)).rejects.toThrow(/REFUSED/);
      expect(bench.seen).toEqual(['1 GET_VRING_BASE 1', '0 SET_FEATURES']);
      closeAll(fd);
    });
  });
});

describeWithFfi('splitter: ends', () => {
  it('what is wrong in a session without an acknowledgement ends the connection with its message', async () => {
    const fault = protocolFault('BAD_VALUE', 'SET_VRING_NUM: no such size');
    const scripts = [{}, { SET_VRING_NUM: () => ({ ok: false, fault }) as const }];
    await withSplit(scripts, async ({ sender, backend }) => {
      sender.post('SET_VRING_NUM', { index: 1, num: 8 });
      expect((await backend.ended).fault).toEqual(fault);
    });
  });

  it('a session that throws ends the connection with its error', async () => {
    const error = new Error('on purpose');
    const scripts = [
      {},
      {
        SET_OWNER: () => {
          throw error;
        },
      },
    ];
    await withSplit(scripts, async ({ sender, backend }) => {
      expect(await sender.request('SET_OWNER', undefined)).toMatchObject({ ok: false });
      expect((await backend.ended).error).toBe(error);
    });
  });

  it.each([
    [{ fault: undefined }, /^whoever serves queue 1, 3 has ended$/],
    [{ fault: protocolFault('CLOSED', 'the thread of queue 1, 3 died') }, /^the thread of queue 1, 3 died$/],
  ])('a thread that dies without a word ends it too: %j', async (end, message) => {
    // It never answers either.
    const hangs = { SET_OWNER: async () => await new Promise<never>(() => {}) };
    await withSplit([{}, hangs], async ({ sender, backend, kill }) => {
      const pending = sender.request('SET_OWNER', undefined);
      await turns();
      kill(1, end);
      expect((await backend.ended).fault?.message).toMatch(message);
      expect(await pending).toMatchObject({ ok: false, fault: { code: 'CLOSED' } });
    });
  });

  it('what the other side does wrong is found before any session sees it', async () => {
    await withSplit([{}, {}], async ({ sender, backend, seen }) => {
      sender.post('SET_VRING_BASE', { index: 4, num: 0 });
      expect((await backend.ended).fault).toEqual({
        code: 'BAD_VALUE',
        message: 'SET_VRING_BASE: queue 0x4 of a device with 4',
      });
      expect(seen).toEqual([]);
    });
  });

  it('a device of no sessions is a mistake', () => {
    const [left, right] = streamPair();
    expect(() => splitVhostUser(left, { members: [], queueCount: 1, configSize: 0 })).toThrow(RangeError);
    left.close();
    right.close();
  });
});

describeWithFfi('splitter: the back channel', () => {
  it('calls and errors of all sessions are passed on, and a change of the configuration once', async () => {
    const channels: RequestSender<BackendRequests, BackendReplies>[] = [];
    const configs = [1, 1].map((byte) => new Uint8Array(8).fill(byte));
    const scripts = configs.map((_, index) => ({
      SET_BACKEND_REQ_FD: (__: undefined, fds: { take(): number | undefined }) => {
        const stream = streamOf(fds);
        const options = { stream, table: BACKEND_REQUESTS, decodeContext: () => CONTEXT, onEnd: () => {} };
        channels[index] = new RequestSender(options);
        return { ok: true, value: undefined } as const;
      },
      GET_CONFIG: ({ offset, isMigration }: RequestPayloads['GET_CONFIG']) =>
        ({ ok: true, value: { offset, isMigration, bytes: configs[index]! } }) as const,
    }));
    await withSplit(scripts, async (bench) => {
      const heard: string[] = [];
      const far = await openFarEnd(bench, heard);
      const config = async (): Promise<number> => {
        const read = { offset: 0, bytes: new Uint8Array(1), isMigration: false };
        return (await ask(bench, 'GET_CONFIG', read))!.bytes[0]!;
      };
      await channels[1]!.request('VRING_CALL', { index: 3, num: 0 });
      await channels[0]!.request('VRING_ERR', { index: 2, num: 0 });
      await settle(() => heard.length === 2);
      expect(heard.splice(0).toSorted()).toEqual(['VRING_CALL 3', 'VRING_ERR 2']);

      // The one that hears of the change later says nothing new; what is read is what was told of.
      configs[1]!.fill(2);
      await channels[1]!.request('CONFIG_CHANGE_MSG', undefined);
      expect(await config()).toBe(2);
      configs[0]!.fill(2);
      await channels[0]!.request('CONFIG_CHANGE_MSG', undefined);
      await settle(() => heard.length === 1);
      await ask(bench, 'SET_OWNER', undefined);
      expect(heard.splice(0)).toEqual(['CONFIG_CHANGE_MSG']);

      configs[0]!.fill(3);
      await channels[0]!.request('CONFIG_CHANGE_MSG', undefined);
      expect(await config()).toBe(3);
      await settle(() => heard.length === 1);
      far.close();
    });
  });
});

async function openFarEnd(bench: SplitBench, heard: string[]): Promise<{ close(): void }> {
  const [ours, theirs] = socketPair();
  const note = (name: string) => (payload: unknown) => {
    heard.push(payload === undefined ? name : `${name} ${(payload as { index: number }).index}`);
    return { ok: true, value: undefined } as const;
  };
  const receiver = new RequestReceiver<BackendRequests, BackendReplies>({
    stream: streamOf({ take: () => ours }),
    table: BACKEND_REQUESTS,
    handlers: {
      CONFIG_CHANGE_MSG: note('CONFIG_CHANGE_MSG'),
      VRING_CALL: note('VRING_CALL'),
      VRING_ERR: note('VRING_ERR'),
    },
    decodeContext: () => CONTEXT,
    hasFeature: () => true,
    onEnd: () => {},
  });
  await ask(bench, 'SET_PROTOCOL_FEATURES', PROTOCOL);
  await ask(bench, 'SET_BACKEND_REQ_FD', undefined, theirs);
  closeAll(theirs);
  return { close: () => receiver.close() };
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
}

async function settle(condition: () => boolean): Promise<void> {
  while (!condition()) await turns();
}
