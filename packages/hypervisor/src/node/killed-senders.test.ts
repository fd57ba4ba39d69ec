import type { DomId } from '@virtlab/abi/brands';
import { createPrng } from '@virtlab/aio';
import type { EventAbi } from '@virtlab/event-channel';
import { linuxFfi } from '@virtlab/linux';
import { describe, expect, it, vi } from 'vitest';
import { createProcessMachine } from './process-machine.ts';
import type { EventOrder } from './testing/event-orders.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);
const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const KILLS = 4 * CAMPAIGN;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const TIMEOUT = { timeout: 10_000, interval: 5 };

/** A receiver, a sender that lives, and one after another that is killed with -9 in the middle of its sends. */
async function killSenders(abi: EventAbi): Promise<number> {
  const prng = createPrng(SEED);
  const up = new Set<DomId>();
  const machine = createProcessMachine({
    entry: new URL('./testing/event-domain.ts', import.meta.url),
    onConsole: (domain) => up.add(domain),
  });
  const { hypervisor } = machine;
  const tell = <T>(domain: DomId, order: EventOrder): Promise<T> =>
    machine.request(domain, order) as Promise<T>;
  const start = async (name: string): Promise<DomId> => {
    const domain = hypervisor.createDomain({ name, type: 'pv', ramSize: 1 << 16 });
    const startInfo = { xenstoreFrame: 0, xenstorePort: 0 as const };
    hypervisor.unpauseDomain(domain, { module: '', args: null }, startInfo);
    await vi.waitFor(() => expect(up).toContain(domain), TIMEOUT);
    return domain;
  };
  const connect = async (from: DomId, to: DomId): Promise<{ from: number; to: number }> => {
    const port = await tell<number>(to, { order: 'open', remote: from });
    return { from: await tell<number>(from, { order: 'bind', remote: to, port }), to: port };
  };
  try {
    const receiver = await start('receiver');
    const living = await start('living');
    expect(await tell(receiver, { order: 'use', abi })).toBe(abi);
    const channel = await connect(living, receiver);
    let heard = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const mortal = await start(`mortal-${kill}`);
      const others = [await connect(mortal, receiver), await connect(mortal, receiver)];
      const ports = others.map(({ from }) => from);
      await tell(mortal, { order: 'storm', ports, seed: prng.next() });
      await new Promise((resolve) => setTimeout(resolve, prng.below(20)));
      for (let sent = prng.below(4); sent > 0; sent--)
        await tell(living, { order: 'send', port: channel.from });
      process.kill(hypervisor.domains().find(({ domain }) => domain === mortal)!.pid!, 'SIGKILL');
      await vi.waitFor(() => expect(hypervisor.resourcesOf(mortal)).toBeUndefined(), TIMEOUT);
      // Whatever it left, the living one is heard.
      heard = await tell<number>(receiver, { order: 'heard', port: channel.to });
      await tell(living, { order: 'send', port: channel.from });
      await vi.waitFor(
        async () =>
          expect(
            await tell<number>(receiver, { order: 'heard', port: channel.to }),
            `seed ${SEED}, kill ${kill}`,
          ).toBeGreaterThan(heard),
        TIMEOUT,
      );
    }
    return heard;
  } finally {
    await machine.close();
  }
}

describe.skipIf(!ffi.available)('senders that are killed in the middle of their sends', () => {
  it.each(['2l', 'fifo'] as const)(
    '%s: silence nobody',
    async (abi) => {
      expect(await killSenders(abi)).toBeGreaterThan(0);
    },
    20_000 * CAMPAIGN,
  );
});
