// A guest of the control plane's benchmark: brings its disk up and down, and talks to xenstore.
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { type Domain, connectDevices, connectOwnXenstore } from '@virtlab/domain';
import type { DriverLink } from '@virtlab/virtio';
import { createBlkDriver } from '@virtlab/virtio-blk';
import type { Xenstore } from '@virtlab/xenstore';
import { type RunResult, elapsedNs } from '../contender.ts';
import type { GuestArguments } from '../lab/lab-messages.ts';
import { CONSOLE_UP } from '../lab/machine.ts';
import type { ControlRequest, StoreOperation } from './control-messages.ts';
import { countRequests } from './counting-store.ts';

/** A node that a domain may write. */
const KEY = 'data/bench';
const VALUE = 'sixteen bytes!!!';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { bus } = args as GuestArguments;
  const counting = countRequests(connectOwnXenstore(domain));
  const { store } = counting;
  const links = await connectDevices(domain, store, bus);
  const link = links.byType.get(VIRTIO_ID_BLOCK);
  if (link === undefined) throw new Error(`Domain ${domain.id} found no disk`);
  await store.write(KEY, VALUE);
  domain.connection.onRequest(async (message) => {
    const request = message as ControlRequest;
    if (request.count === 0) return undefined;
    const [requests, traps] = [counting.requestCount(), links.trapCount()];
    const result =
      request.op === 'bring-up'
        ? await bringUp(domain, link, request.count)
        : await talk(store, request.what, request.depth, request.count);
    const counts = {
      'xenstore requests': counting.requestCount() - requests,
      traps: links.trapCount() - traps,
    };
    return { ...result, counts };
  });
  domain.console(CONSOLE_UP);
}

async function bringUp({ aio }: Domain, link: DriverLink, count: number): Promise<RunResult> {
  const start = performance.now();
  for (let done = 0; done < count; done += 1) {
    const disk = await createBlkDriver(link, { aio });
    await disk.close();
  }
  return { operationCount: count, elapsedNs: elapsedNs(start), doorbells: { kicks: 0, calls: 0 } };
}

/** `depth` conversations at once, each with one request under way. */
async function talk(store: Xenstore, what: StoreOperation, depth: number, count: number): Promise<RunResult> {
  let begun = 0;
  const converse = async (): Promise<void> => {
    while (begun < count) {
      begun += 1;
      await operate(store, what);
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: depth }, converse));
  return { operationCount: count, elapsedNs: elapsedNs(start), doorbells: { kicks: 0, calls: 0 } };
}

async function operate(store: Xenstore, what: StoreOperation): Promise<void> {
  switch (what) {
    case 'read':
      return void (await store.read(KEY));
    case 'write':
      return await store.write(KEY, VALUE);
    case 'transaction':
      return await store.transaction(async (tx) => await tx.write(KEY, VALUE));
  }
}
