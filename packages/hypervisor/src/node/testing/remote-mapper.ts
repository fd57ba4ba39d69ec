import { execFileSync } from 'node:child_process';
import { closeSync, openSync, read, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';
import type { CopyingGrantMapper, GrantCopyList, GrantMapper } from '@virtlab/grant-table';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { MapperArgs, MapperOrder } from './grant-orders.ts';

const ANSWER_SIZE_MAX = 1 << 20;

/** A `GrantMapper` in another process, which is told what to do over FIFOs and waited for without the event loop. */
export class RemoteMapper implements CopyingGrantMapper {
  readonly args: MapperArgs;
  readonly #ramOf: (domain: DomId) => MemoryRegion | undefined;
  readonly #bytes: Buffer = Buffer.alloc(ANSWER_SIZE_MAX);
  #orders = -1;
  #answers = -1;
  #frame = 0;

  /** `ramOf` is this process's own view of a domain's RAM. */
  constructor(
    folder: string,
    name: string,
    mapCountMax: number,
    ramOf: (domain: DomId) => MemoryRegion | undefined,
  ) {
    const [orders, answers] = [join(folder, `${name}.orders`), join(folder, `${name}.answers`)];
    execFileSync('mkfifo', [orders, answers]);
    this.args = { orders, answers, mapCountMax };
    this.#ramOf = ramOf;
    // Read and write, so that neither side's opening waits for the other.
    this.#orders = openSync(orders, 'r+');
    this.#answers = openSync(answers, 'r+');
  }

  tell(order: MapperOrder): unknown {
    writeSync(this.#orders, `${JSON.stringify(order)}\n`);
    let size = 0;
    while (size === 0 || this.#bytes[size - 1] !== 0x0a) {
      size += readSync(this.#answers, this.#bytes, size, ANSWER_SIZE_MAX - size, null);
    }
    return JSON.parse(this.#bytes.toString('utf8', 0, size));
  }

  /** The same without blocking this process, for what the other one needs it for. */
  async tellAsync(order: MapperOrder): Promise<unknown> {
    writeSync(this.#orders, `${JSON.stringify(order)}\n`);
    const text = await new Promise<string>((resolve, reject) => {
      read(this.#answers, this.#bytes, 0, ANSWER_SIZE_MAX, null, (error, size) => {
        if (error) reject(error);
        else resolve(this.#bytes.toString('utf8', 0, size));
      });
    });
    return JSON.parse(text);
  }

  close(): void {
    closeSync(this.#orders);
    closeSync(this.#answers);
    rmSync(this.args.orders);
    rmSync(this.args.answers);
  }

  get frame(): number {
    return this.#frame;
  }

  map(domain: DomId, ref: GrantRef, writable: boolean): GrantHandle | number {
    const [result, frame] = this.tell({ order: 'map', domain, ref, writable }) as [number, number];
    this.#frame = frame;
    return result;
  }

  ram(domain: DomId): MemoryRegion | undefined {
    return this.tell({ order: 'has', domain }) === true ? this.#ramOf(domain) : undefined;
  }

  unmap(handle: GrantHandle): number {
    return this.tell({ order: 'unmap', handle }) as number;
  }

  copy(list: GrantCopyList): number {
    const copies = Array.from({ length: list.count }, (_, at) => [
      list.flags[at]!,
      list.sourceDomain[at]!,
      list.source[at]!,
      list.sourceOffset[at]!,
      list.destDomain[at]!,
      list.dest[at]!,
      list.destOffset[at]!,
      list.size[at]!,
    ]);
    const [failedCount, statuses] = this.tell({ order: 'copy', copies }) as [number, number[]];
    list.status.set(statuses);
    return failedCount;
  }

  live(): ReturnType<GrantMapper['live']> {
    return this.tell({ order: 'live' }) as ReturnType<GrantMapper['live']>;
  }
}
