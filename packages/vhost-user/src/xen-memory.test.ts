import { type DomId, domId } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import {
  DMA_FAULT_ADDRESS,
  DMA_OK,
  IdentityDeviceMemory,
  SegmentList,
  memoryRegion,
} from '@virtlab/guest-memory';
import { closeFd, memfdCreate, openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { VHOST_F_LOG_ALL } from '@virtlab/abi/vhost-user';
import { featureBit } from '@virtlab/abi/virtio';
import { MessageFds } from './connection.ts';
import { MemoryTable } from './memory-table.ts';
import type { RegionDescription, XenMapping } from './payload-memory.ts';
import { BASE_FEATURES, RawPeer } from './testing/raw-peer.ts';
import { type XenMemory, reachDomains } from './xen-memory.ts';

const PAGE = 4096n;
const DOMID = domId(7);
const NEXT_DOMID = domId(8);
const NOBODY = domId(99);
const GRANT_HIGH = 0x8000_0000;
const RAM = memoryRegion(new ArrayBuffer(64 << 10));

/** Domain 7 granted its first sixteen pages, by references of the same number, and shows all of its RAM. */
const XEN: XenMemory = {
  grantsOf: async (domid) =>
    domid === DOMID || domid === NEXT_DOMID
      ? new IdentityDeviceMemory([{ guestAddress: XEN_GRANT_DMA_ADDR_OFF, region: RAM }])
      : undefined,
  ramOf: async (domid) => (domid === DOMID ? RAM : undefined),
};

function region(kind: XenMapping['kind'], at: bigint, size: bigint, domid: DomId = DOMID): RegionDescription {
  const guestAddress = kind === 'grant' ? XEN_GRANT_DMA_ADDR_OFF + at : at;
  const xen = { kind, isOnDemand: kind === 'grant', domid };
  return { guestAddress, size, userAddress: guestAddress, mmapOffset: 0n, xen };
}

async function add(table: MemoryTable, description: RegionDescription): Promise<string | undefined> {
  using fds = new MessageFds([memfdCreate('placeholder', 4096)]);
  return table.add(description, fds, await reachDomains(XEN, [description]))?.message;
}

/** What a map of one byte at a grant address says. */
function mapOf(table: MemoryTable, low: number, size = 1): number {
  const list = new SegmentList(4);
  const status = table.deviceMemory.map(low, GRANT_HIGH, size, true, list);
  table.deviceMemory.unmap(list, 0, list.count);
  return status;
}

describeWithFfi('XEN_MMAP: regions of other domains', () => {
  let fdCount = 0;
  beforeEach(() => (fdCount = openFdCount()));
  afterEach(() => expect(openFdCount() - fdCount, 'file descriptors').toBe(0));

  it('grants are reached as far as a region shows them', async () => {
    using table = new MemoryTable({ hasXenMmap: true });
    expect(await add(table, region('grant', PAGE, 2n * PAGE))).toBeUndefined();
    expect(mapOf(table, 0x1000)).toBe(DMA_OK);
    expect(mapOf(table, 0x2fff)).toBe(DMA_OK);
    expect(mapOf(table, 0x2fff, 2)).toBe(DMA_FAULT_ADDRESS);
    expect(mapOf(table, 0xfff)).toBe(DMA_FAULT_ADDRESS);
    expect(await add(table, region('grant', 8n * PAGE, PAGE))).toBeUndefined();
    expect(mapOf(table, 0x8000)).toBe(DMA_OK);
    expect(table.deviceMemory.mapArea(XEN_GRANT_DMA_ADDR_OFF + 8n * PAGE, 4096, 16, true)).toMatchObject({
      offset: 0x8000,
    });
    expect(table.hasGrants).toBe(true);
  });

  it('a region that is removed shows nothing any more', async () => {
    using table = new MemoryTable({ hasXenMmap: true });
    const [first, second] = [region('grant', 0n, PAGE), region('grant', PAGE, PAGE)];
    expect([await add(table, first), await add(table, second)]).toEqual([undefined, undefined]);
    expect(table.remove(first)).toBeUndefined();
    expect(mapOf(table, 0)).toBe(DMA_FAULT_ADDRESS);
    expect(mapOf(table, 0x1000)).toBe(DMA_OK);
    expect(table.remove(second)).toBeUndefined();
    expect(table.hasGrants).toBe(false);
    expect(mapOf(table, 0x1000)).toBe(DMA_FAULT_ADDRESS);
  });

  it('RAM of a domain, for one who may', async () => {
    using table = new MemoryTable({ hasXenMmap: true });
    expect(await add(table, region('foreign', PAGE, PAGE))).toBeUndefined();
    RAM.u8[4096 + 5] = 42;
    const area = table.deviceMemory.mapArea(PAGE, 4096, 16, true);
    expect(typeof area === 'number' ? area : area.region.u8[area.offset + 5]).toBe(42);
    expect(table.hasGrants).toBe(false);
  });

  const refused: readonly (readonly [string, RegionDescription, RegExp])[] = [
    ['grants of nobody', region('grant', 8n * PAGE, PAGE, NOBODY), /grants of domain 99, .* out of reach/],
    ['RAM of nobody', region('foreign', 0n, PAGE, NOBODY), /of domain 99: out of reach/],
    [
      'grants at addresses that are none',
      { ...region('grant', 8n * PAGE, PAGE), guestAddress: 0n },
      /bit 63/,
    ],
    ['RAM beyond its end', region('foreign', 0xf000n, 2n * PAGE), /its RAM ends at 0x10000/],
    ['half words of RAM', region('foreign', 4n, PAGE), /whole words/],
    ['grants of a second domain', region('grant', 8n * PAGE, PAGE, NEXT_DOMID), /grants of one domain/],
    ['RAM beside grants', region('foreign', 0n, PAGE), /grants of one domain/],
    ['grants that overlap', region('grant', 0n, 2n * PAGE), /overlaps/],
  ];
  it.each(refused)('%s are refused, and all stays as it was', async (_, description, message) => {
    using table = new MemoryTable({ hasXenMmap: true });
    expect(await add(table, region('grant', 0n, PAGE))).toBeUndefined();
    expect(await add(table, description)).toMatch(message);
    expect([table.regionCount, mapOf(table, 0)]).toEqual([1, DMA_OK]);
  });
});

describeWithFfi('XEN_MMAP and LOG_SHMFD: what is written through grants is not logged', () => {
  const LOGGED = BASE_FEATURES | featureBit(VHOST_F_LOG_ALL);
  const GRANTS = region('grant', 0n, 16n * PAGE);
  const FOREIGN = region('foreign', 0n, PAGE);

  async function withPeer(
    body: (peer: RawPeer, fd: number, reasons: string[]) => Promise<void>,
  ): Promise<void> {
    const before = openFdCount();
    {
      const reasons: string[] = [];
      await using peer = new RawPeer({ xen: XEN, onRefusal: (reason) => reasons.push(reason) });
      await peer.negotiate(BASE_FEATURES, ~0n);
      peer.context = { ...peer.context, hasXenMmap: true };
      const fd = memfdCreate('log, and placeholder', 4096);
      await body(peer, fd, reasons);
      closeFd(fd);
    }
    expect(openFdCount()).toBe(before);
  }

  it.each([
    [
      'SET_LOG_BASE',
      (peer: RawPeer, fd: number) => peer.ask('SET_LOG_BASE', { size: 4096n, offset: 0n }, fd),
    ],
    ['SET_FEATURES with LOG_ALL', (peer: RawPeer) => peer.ask('SET_FEATURES', LOGGED)],
  ])('after %s regions of grants are refused, and all stays as it was', async (_, begin) => {
    await withPeer(async (peer, fd, reasons) => {
      await peer.ask('SET_MEM_TABLE', [FOREIGN], fd);
      await begin(peer, fd);
      expect((await peer.try('SET_MEM_TABLE', [GRANTS], fd)).ok).toBe(false);
      await peer.ask('REM_MEM_REG', FOREIGN);
      expect((await peer.try('ADD_MEM_REG', GRANTS, fd)).ok).toBe(false);
      expect(peer.backend.status().regionCount).toBe(0);
      await peer.ask('ADD_MEM_REG', FOREIGN, fd);
      expect(reasons).toEqual([
        'SET_MEM_TABLE: what is written through grants is not logged',
        'ADD_MEM_REG: what is written through grants is not logged',
      ]);
    });
  });

  it('while the table has grants, LOG_ALL and SET_LOG_BASE are refused', async () => {
    await withPeer(async (peer, fd, reasons) => {
      await peer.ask('ADD_MEM_REG', GRANTS, fd);
      expect((await peer.try('SET_FEATURES', LOGGED)).ok).toBe(false);
      expect(peer.backend.status()).toMatchObject({ isLogging: false, features: BASE_FEATURES });
      expect(reasons).toEqual(['SET_FEATURES: what is written through grants is not logged']);
      // A reply of its own cannot say so.
      await peer.try('SET_LOG_BASE', { size: 4096n, offset: 0n }, fd);
      expect((await peer.backend.ended).fault?.message).toMatch(/^SET_LOG_BASE: .* is not logged$/);
    });
  });

  it('once the grants are gone it is logged', async () => {
    await withPeer(async (peer, fd) => {
      await peer.ask('ADD_MEM_REG', GRANTS, fd);
      await peer.ask('SET_MEM_TABLE', [FOREIGN], fd);
      await peer.ask('SET_LOG_BASE', { size: 4096n, offset: 0n }, fd);
      await peer.ask('SET_FEATURES', LOGGED);
      expect(peer.backend.status().isLogging).toBe(true);
    });
  });
});
