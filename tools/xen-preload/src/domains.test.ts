import { existsSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  XS_DIRECTORY,
  XS_IS_DOMAIN_INTRODUCED,
  XS_MKDIR,
  XS_READ,
  XS_RELEASE,
  XS_SET_PERMS,
  XS_WATCH,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import type { RealDomain, RealXenstored } from './contract.ts';
import { startRealXenstored } from './real-xenstored.ts';
import { describeDaemons } from './testing/describe-daemons.ts';
import { RingClient } from './testing/ring-client.ts';
import { SocketClient } from './testing/socket-client.ts';

describeDaemons('domains', (options) => {
  let daemon: RealXenstored;
  let tools: SocketClient;
  let rings: RingClient[];

  beforeEach(async () => {
    daemon = await startRealXenstored(options);
    tools = await SocketClient.connect(daemon.socketPath);
    rings = [];
  });

  afterEach(async () => {
    tools.close();
    await daemon.close();
    for (const ring of rings) ring.close();
  });

  function boot(domain: RealDomain): RingClient {
    const ring = new RingClient(domain);
    rings.push(ring);
    return ring;
  }

  async function introduced(domid: number): Promise<{ domain: RealDomain; ring: RingClient }> {
    const domain = await daemon.createDomain(domid);
    const ring = boot(domain);
    expect(await tools.request(XS_WRITE, `/local/domain/${domid}`)).toBe('OK');
    expect(await tools.request(XS_SET_PERMS, `/local/domain/${domid}`, `n${domid}`)).toBe('OK');
    expect(await tools.introduce(domain)).toBe('OK');
    return { domain, ring };
  }

  /** WRITE's value has no NUL behind it. */
  function write(path: string, value: string): Promise<string> {
    return tools.messages.requestBytes(XS_WRITE, Buffer.from(`${path}\0${value}`));
  }

  async function watchReleases(): Promise<void> {
    expect(await tools.request(XS_WATCH, '@releaseDomain', 'r')).toBe('OK');
    expect(await tools.messages.event()).toBe('@releaseDomain r');
  }

  it('an introduced domain reads and writes over its ring page', async () => {
    const { ring } = await introduced(5);
    expect(await tools.request(XS_IS_DOMAIN_INTRODUCED, '5')).toBe('T');
    expect(await write('/local/domain/5/name', 'guest')).toBe('OK');
    expect(await tools.request(XS_SET_PERMS, '/local/domain/5/name', 'n0', 'r5')).toBe('OK');
    expect(await ring.request(XS_READ, '/local/domain/5/name')).toBe('guest');
    expect(await ring.request(XS_MKDIR, 'data')).toBe('OK'); // relative: its home
    expect(await tools.request(XS_DIRECTORY, '/local/domain/5')).toMatch(/^(name\0data|data\0name)$/);
    expect(await ring.request(XS_MKDIR, '/not-mine')).toBe('EACCES');
  });

  it('the ring goes round: indices run on, and each event is delivered', async () => {
    const { ring } = await introduced(5);
    for (let count = 0; count < 200; count++) {
      const value = `${count}`.repeat(1 + (count % 7));
      expect(await ring.messages.requestBytes(XS_WRITE, Buffer.from(`data\0${value}`))).toBe('OK');
      expect(await ring.request(XS_READ, 'data')).toBe(value);
    }
  });

  it('several domains have rings and channels of their own', async () => {
    const guests = await Promise.all([introduced(1), introduced(2), introduced(0x7fef)]);
    expect(new Set(guests.map(({ domain }) => domain.port)).size).toBe(3);
    const answers = guests.map(({ ring, domain }) =>
      ring.messages.requestBytes(XS_WRITE, Buffer.from(`id\0${domain.domid}`)),
    );
    expect(await Promise.all(answers)).toEqual(['OK', 'OK', 'OK']);
    for (const { domain } of guests) {
      expect(await tools.request(XS_READ, `/local/domain/${domain.domid}/id`)).toBe(String(domain.domid));
    }
  });

  it('INTRODUCE fails for a domain that does not exist, and for a port that it does not offer', async () => {
    const domain = await daemon.createDomain(5);
    expect(await tools.introduce({ domid: 6, gfn: domain.gfn, port: domain.port })).toMatch(/^E/);
    const other = await daemon.createDomain(7);
    expect(await tools.introduce({ domid: 5, gfn: domain.gfn, port: other.port })).toMatch(/^E/);
    expect(await tools.request(XS_IS_DOMAIN_INTRODUCED, '6')).toBe('F');
    expect(await tools.introduce(domain)).toBe('OK');
    expect(await tools.request(XS_IS_DOMAIN_INTRODUCED, '5')).toBe('T');
  });

  it('INTRODUCE of an introduced domain binds its channel again', async () => {
    const { domain, ring } = await introduced(5);
    expect(await ring.request(XS_MKDIR, 'before')).toBe('OK');
    expect(await tools.introduce(domain)).toBe('OK');
    expect(await ring.request(XS_MKDIR, 'after')).toBe('OK');
  });

  it('RELEASE ends the connection, deletes the nodes of the domain, and kicks after it reach nobody', async () => {
    const { domain, ring } = await introduced(5);
    expect(await ring.request(XS_MKDIR, 'data')).toBe('OK');
    await watchReleases();
    expect(await tools.request(XS_RELEASE, '5')).toBe('OK');
    expect(await tools.messages.event()).toBe('@releaseDomain r');
    domain.kick();
    expect(await tools.request(XS_IS_DOMAIN_INTRODUCED, '5')).toBe('F');
    expect(await tools.request(XS_READ, '/local/domain/5/data')).toBe('ENOENT');
  });

  it('the death of a domain fires @releaseDomain and deletes its nodes', async () => {
    const { ring, domain } = await introduced(5);
    expect(await ring.request(XS_MKDIR, 'data')).toBe('OK');
    await watchReleases();
    daemon.destroyDomain(5);
    expect(await tools.messages.event()).toBe('@releaseDomain r');
    expect(await tools.request(XS_IS_DOMAIN_INTRODUCED, '5')).toBe('F');
    expect(await tools.request(XS_READ, '/local/domain/5/data')).toBe('ENOENT');
    expect(existsSync(domain.ringPath)).toBe(false);
    domain.kick();
    daemon.destroyDomain(5); // dead already
    expect(await tools.request(XS_READ, '/tool')).toBe('');
  });

  it('a shutdown fires @releaseDomain, and the domain stays', async () => {
    const { ring } = await introduced(5);
    expect(await ring.request(XS_MKDIR, 'data')).toBe('OK');
    await watchReleases();
    daemon.shutdownDomain(5);
    expect(await tools.messages.event()).toBe('@releaseDomain r');
    expect(await tools.request(XS_IS_DOMAIN_INTRODUCED, '5')).toBe('T');
    expect(await ring.request(XS_READ, 'data')).toBe('');
  });

  it('a closed domain is a dead one, and its id can be used again', async () => {
    const first = await introduced(5);
    await watchReleases();
    first.domain.close();
    first.domain.close();
    expect(await tools.messages.event()).toBe('@releaseDomain r');
    const second = await introduced(5);
    expect(second.domain.port).not.toBe(first.domain.port);
    first.domain.close(); // no longer its domain
    expect(await second.ring.request(XS_MKDIR, 'data')).toBe('OK');
  });

  it('refuses reserved domids, domain 0 and a domain that exists', async () => {
    for (const domid of [0, -1, 1.5, 0x7ff0]) {
      await expect(daemon.createDomain(domid)).rejects.toThrow(RangeError);
    }
    await daemon.createDomain(5);
    await expect(daemon.createDomain(5)).rejects.toThrow('domain 5 exists');
  });
});
