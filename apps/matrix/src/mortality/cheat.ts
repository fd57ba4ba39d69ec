import { XEN_GRANT_DMA_ADDR_OFF_HIGH } from '@virtlab/abi/grant-table';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { type Domain, connectDevices, connectOwnXenstore } from '@virtlab/domain';
import type { DmaMapper } from '@virtlab/guest-memory';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { createRngDriver } from '@virtlab/virtio-rng';
import type { DriverLink } from '@virtlab/virtio';
import type { DomURequest, GuestArguments } from './messages.ts';

type Cheat = (DomURequest & { readonly op: 'cheat' })['how'];

/** What became of a device that was lied to, of its neighbour, and of it after a reset. */
export interface CheatAnswer {
  readonly error: string;
  readonly neighbour: 'works';
  readonly afterReset: 'works';
}

/** A reference that this domain grants to nobody. */
const FOREIGN_REF = 30_000;
const PAGE_SHIFT = 12;

/** Lends one device what it does not have to lend. */
export async function runCheat(domain: Domain, { bus }: GuestArguments): Promise<void> {
  const { aio } = domain;
  const store = connectOwnXenstore(domain);
  const links = await connectDevices(domain, store, bus);
  const entropy = links.byType.get(VIRTIO_ID_RNG)!;
  const disk = await createBlkDriver(links.byType.get(VIRTIO_ID_BLOCK)!, { aio });
  domain.connection.onRequest(async (message) => {
    const request = message as DomURequest;
    if (request.op === 'write') return await writeAndRead(disk);
    if (request.op !== 'cheat') throw new TypeError(`A cheat does not serve ${request.op}`);
    const error = await readWithLies(entropy, request.how, domain);
    await disk.write(8, new Uint8Array(512));
    const again = await createRngDriver(entropy, { aio });
    const count = await again.read(new Uint8Array(16));
    await again.stop();
    if (count === 0) throw new Error('No entropy after a reset');
    return { error, neighbour: 'works', afterReset: 'works' } satisfies CheatAnswer;
  });
}

async function readWithLies(link: DriverLink, how: Cheat, { aio }: Domain): Promise<string> {
  const dma = new LyingMapper(link.dma, how);
  const liar: DriverLink = {
    transport: link.transport,
    dma,
    [Symbol.asyncDispose]: () => link[Symbol.asyncDispose](),
  };
  const driver = await createRngDriver(liar, { aio });
  try {
    await driver.read(new Uint8Array(16));
    return 'none';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    await driver.stop();
  }
}

/** How the write of a sector and the read of one end. */
async function writeAndRead(disk: BlkDriver): Promise<readonly string[]> {
  const outcome = (promise: Promise<void>): Promise<string> =>
    promise.then(
      () => 'ok',
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
  return [
    await outcome(disk.write(0, new Uint8Array(512).fill(7))),
    await outcome(disk.read(0, new Uint8Array(512))),
  ];
}

/** Coherent memory is honest; the address of a transfer never is. */
class LyingMapper implements DmaMapper {
  readonly memory: DmaMapper['memory'];
  readonly #honest: DmaMapper;
  readonly #how: Cheat;
  addressLow = 0;
  addressHigh = 0;

  constructor(honest: DmaMapper, how: Cheat) {
    this.memory = honest.memory;
    this.#honest = honest;
    this.#how = how;
  }

  allocateCoherent(size: number): ReturnType<DmaMapper['allocateCoherent']> {
    return this.#honest.allocateCoherent(size);
  }

  freeCoherent(buffer: ReturnType<DmaMapper['allocateCoherent']>): boolean {
    return this.#honest.freeCoherent(buffer);
  }

  allocate(size: number): number {
    return this.#honest.allocate(size);
  }

  free(offset: number, size: number): void {
    this.#honest.free(offset, size);
  }

  share(offset: number, size: number, direction: Parameters<DmaMapper['share']>[2]): boolean {
    const honest = this.#honest;
    if (!honest.share(offset, size, direction)) return false;
    const { addressLow, addressHigh } = honest;
    honest.unshare(addressLow, addressHigh, size, direction);
    [this.addressLow, this.addressHigh] = this.#address(addressLow, addressHigh);
    return true;
  }

  unshare(): boolean {
    return true;
  }

  #address(low: number, high: number): readonly [number, number] {
    switch (this.#how) {
      case 'revoked':
        return [low, high];
      case 'foreign':
        return [(FOREIGN_REF << PAGE_SHIFT) >>> 0, XEN_GRANT_DMA_ADDR_OFF_HIGH];
      case 'outside':
        return [low, 0x10];
    }
  }
}
