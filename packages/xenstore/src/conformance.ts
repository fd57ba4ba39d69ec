import {
  XENSTORE_PAYLOAD_MAX,
  XSD_SOCKMSG,
  XS_DIRECTORY_PART,
  XS_MKDIR,
  XS_READ,
  XS_RM,
} from '@virtlab/abi/xs-wire';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { XenstoreClient } from './client.ts';
import { CONTROL_CASES } from './conformance-control-cases.ts';
import { DOMAIN_CASES } from './conformance-domain-cases.ts';
import { HEAD_CASES } from './conformance-head-cases.ts';
import { NODE_CASES, PERMISSION_CASES } from './conformance-node-cases.ts';
import {
  type ConformanceCase,
  type ProfileName,
  ScriptConnection,
  playScript,
  rowsFor,
} from './conformance-script.ts';
import { TRANSACTION_CASES, WATCH_CASES } from './conformance-session-cases.ts';
import type { ByteStream } from './contract.ts';
import { OX_CASES } from './ox-conformance-cases.ts';
import { nulStrings } from './wire.ts';

export {
  type CaseRow,
  type ConformanceCase,
  type PerProfile,
  type ProfileName,
  ScriptConnection,
  type ScriptRow,
  playScript,
  rowsFor,
} from './conformance-script.ts';

/** A freshly started xenstored of the subject's profile. */
export interface ConformanceTarget {
  /** Another connection: domain 0 privileged, others as guests. */
  connect(domid: number): Promise<ByteStream>;
  /** After all connections have ended: throws if a watch or a transaction is left. Absent if it cannot be asked. */
  assertQuiescent?(): void;
  close(): Promise<void>;
}

export interface ConformanceSubject {
  readonly name: string;
  /** The daemon it is to behave as. Default: `c-4.17`. */
  readonly profile?: ProfileName;
  /** What the transport can show; cases beyond it are skipped. */
  readonly capabilities: {
    /** Connections of unprivileged domains. */
    readonly guests: boolean;
  };
  create(): Promise<ConformanceTarget>;
}

/** Requirements on a xenstored, whatever the transport, as the real daemon of the subject's profile meets them. */
export function describeXenstore(subject: ConformanceSubject): void {
  describe(`xenstore over ${subject.name}`, () => {
    const session = useSession(subject);
    const check = (cases: readonly ConformanceCase[]): void => checkCases(cases, subject, session);
    describe('nodes', () => {
      check(NODE_CASES);
    });
    describe('permissions and quotas', () => {
      check(PERMISSION_CASES);
    });
    describe('transactions', () => {
      check(TRANSACTION_CASES);
    });
    describe('watches', () => {
      check(WATCH_CASES);
    });
    describe('domains and control', () => {
      check(DOMAIN_CASES);
      check(CONTROL_CASES);
    });
    describe.runIf(subject.profile === 'c-head')('after 4.17', () => {
      check(HEAD_CASES);
    });
    describe.runIf(subject.profile === 'oxenstored')('as in oxenstored', () => {
      check(OX_CASES);
    });
    describeFraming(session, subject.profile ?? 'c-4.17');
    describeClient(session, subject.profile ?? 'c-4.17');
  });
}

interface Session {
  /** The connection of that name, made when it is first used: a domain id and an optional letter. */
  connect(who: string): Promise<ScriptConnection>;
  client(domid: number): Promise<XenstoreClient>;
}

function useSession(subject: ConformanceSubject): Session {
  let target: ConformanceTarget;
  const connections = new Map<string, ScriptConnection>();
  const clients: XenstoreClient[] = [];
  beforeEach(async () => {
    target = await subject.create();
  });
  afterEach(async () => {
    for (const connection of connections.values()) connection.close();
    for (const client of clients) client.close();
    await Promise.all([...connections.values(), ...clients].map(({ closed }) => closed));
    connections.clear();
    clients.length = 0;
    await new Promise((resolve) => setImmediate(resolve));
    target.assertQuiescent?.();
    await target.close();
  });
  return {
    connect: async (who) => {
      const known = connections.get(who);
      if (known !== undefined) return known;
      const connection = new ScriptConnection(await target.connect(Number.parseInt(who, 10)));
      connections.set(who, connection);
      return connection;
    },
    client: async (domid) => {
      const client = new XenstoreClient(await target.connect(domid));
      clients.push(client);
      return client;
    },
  };
}

function checkCases(
  cases: readonly ConformanceCase[],
  { capabilities, profile = 'c-4.17' }: ConformanceSubject,
  session: Session,
): void {
  for (const { name, guests, profiles, ...rest } of cases) {
    if (profiles !== undefined && !profiles.includes(profile)) continue;
    const rows = rowsFor({ name, ...rest }, profile);
    const needs = guests === true ? ' [needs guests]' : '';
    it.skipIf(guests === true && !capabilities.guests)(`${name}${needs}`, async () => {
      expect(await playScript(rows, (who) => session.connect(who))).toEqual(rows);
    });
  }
}

function describeFraming(session: Session, profile: ProfileName): void {
  describe('framing', () => {
    it('xenstore.txt: a request arrives in any fragments, and many in one', async () => {
      const connection = await session.connect('0');
      const whole = new Uint8Array([XS_READ, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x2f, 0]);
      for (const byte of whole) {
        connection.sendBytes(new Uint8Array([byte]));
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(await connection.next()).toMatchObject({ type: XS_READ, reqId: 7, txId: 0 });
      connection.sendBytes(new Uint8Array([...whole, ...whole, ...whole]));
      for (let i = 0; i < 3; i++) expect(await connection.next()).toMatchObject({ type: XS_READ, reqId: 7 });
    });

    it.skipIf(profile === 'oxenstored')(
      'handle_input: a payload over 4096 bytes ends this connection and no other',
      async () => {
        const [bad, good] = [await session.connect('0'), await session.connect('0b')];
        const header = new Uint8Array(XSD_SOCKMSG.size);
        const fields = { type: XS_READ, req_id: 1, tx_id: 0, len: XENSTORE_PAYLOAD_MAX + 1 };
        XSD_SOCKMSG.write(new DataView(header.buffer), 0, fields);
        bad.sendBytes(header);
        expect(await bad.next()).toBeUndefined();
        good.send(XS_READ, 0, '/\0');
        expect(await good.next()).toMatchObject({ type: XS_READ });
      },
    );

    it.skipIf(profile === 'oxenstored')(
      'xenstore.txt DIRECTORY_PART: the parts of a long list are the list',
      async () => {
        const connection = await session.connect('0');
        const names = Array.from({ length: 900 }, (_, i) => `child-${i}`);
        for (const name of names) {
          connection.send(XS_MKDIR, 0, `/many/${name}\0`);
          await connection.next();
        }
        const found: string[] = [];
        for (let offset = 0, isLast = false; !isLast;) {
          connection.send(XS_DIRECTORY_PART, 0, `/many\0${offset}\0`);
          const payload = (await connection.next())!.payload;
          expect(payload.length).toBeLessThanOrEqual(XENSTORE_PAYLOAD_MAX);
          const [generation, ...part] = nulStrings(payload);
          expect(generation).toMatch(/^\d+$/);
          isLast = part.at(-1) === '';
          found.push(...(isLast ? part.slice(0, -1) : part));
          offset = found.join('\0').length + 1;
        }
        expect(found).toEqual(names);
        connection.send(XS_RM, 0, '/many\0');
        await connection.next();
      },
    );
  });
}

function describeClient(session: Session, profile: ProfileName): void {
  describe('client', () => {
    it('Xenstore.transaction: repeats after EAGAIN until it commits', async () => {
      const [one, other] = [await session.client(0), await session.client(0)];
      await one.write('/counter', '0');
      const increment = (client: XenstoreClient): Promise<void> =>
        client.transaction(async (tx) => {
          await tx.write('/counter', String(Number(await tx.readText('/counter')) + 1));
        });
      await Promise.all(Array.from({ length: 10 }, (_, i) => increment(i % 2 === 0 ? one : other)));
      expect(await one.readText('/counter')).toBe('10');
      await one.rm('/counter');
    });

    it('Xenstore.watch: iterates over the first event and then over changes', async () => {
      const [watcher, writer] = [await session.client(0), await session.client(0)];
      const watch = await watcher.watch('/seen');
      const paths: string[] = [];
      for await (const { path } of watch) {
        paths.push(path);
        if (paths.length === 3) break;
        await writer.write(`/seen/${paths.length}`, '');
      }
      expect(paths).toEqual(['/seen', '/seen/1', '/seen/2']);
      await writer.rm('/seen');
    });

    it('Xenstore: overlapping requests are answered in the order of the calls', async () => {
      const client = await session.client(0);
      const order: number[] = [];
      await Promise.all(
        Array.from({ length: 200 }, async (_, i) => {
          await client.write('/order', 'x'.repeat(i));
          order.push(i);
        }),
      );
      expect(order).toEqual(Array.from({ length: 200 }, (_, i) => i));
      expect((await client.read('/order')).length).toBe(199);
      await client.rm('/order');
    });

    it('Xenstore.directory: lists more names than one reply holds', async () => {
      const client = await session.client(0);
      const names = Array.from({ length: 700 }, (_, i) => `name-${i}`);
      await Promise.all(names.map((name) => client.mkdir(`/long/${name}`)));
      const expected = profile === 'oxenstored' ? names.toSorted() : names;
      expect(await client.directory('/long')).toEqual(expected);
      await client.rm('/long');
    });
  });
}
