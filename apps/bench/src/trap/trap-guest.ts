// The HVM guest of the trap benchmark: accesses that its device model answers, and kicks of both kinds.
import { PCI_VENDOR_ID } from '@virtlab/abi/pci';
import { type Domain, createHvmPlatform } from '@virtlab/domain';
import { IdentityDmaMapper } from '@virtlab/guest-memory';
import { initializeDevice } from '@virtlab/virtio';
import { type PciAccess, assignBars, connectVirtioPci, enumeratePci } from '@virtlab/virtio-pci';
import { timeNs } from '../contender.ts';
import { CONSOLE_UP } from '../lab/machine.ts';
import type { TrapRequest } from './trap-messages.ts';

const WINDOW = { base: 0xe000_0000, size: 0x1000_0000 };

export async function boot(domain: Domain): Promise<void> {
  const { access, interrupts, kicks } = await createHvmPlatform(domain);
  assignBars(access, WINDOW);
  const { aio } = domain;
  const dma = new IdentityDmaMapper(domain.ram, { pages: domain.pages });
  const [first, second] = enumeratePci(access).map(({ bdf }) => bdf);
  const shared = { access, interrupts, dma, aio };
  const belled = await connectVirtioPci({ ...shared, bdf: first!, kicks });
  const trapped = await connectVirtioPci({ ...shared, bdf: second! });
  for (const link of [belled, trapped]) await initializeDevice(link, { aio, wanted: 0n, polling: false });
  domain.connection.onRequest((message) => {
    const request = message as TrapRequest;
    switch (request.op) {
      case 'config':
        return timeNs(() => readAll(request.count, () => access.configRead(first!, PCI_VENDOR_ID, 2)));
      case 'register':
        return timeNs(() => readAll(request.count, () => readRegister(access)));
      case 'kick': {
        const { transport } = request.isTrapped ? trapped : belled;
        return timeNs(() => {
          for (let kick = 0; kick < request.count; kick += 1) transport.kick(0);
        });
      }
      case 'wakeUps':
        return aio.statistics.wakeUps;
    }
  });
  domain.console(CONSOLE_UP);
}

/** The first double word of the largest BAR, which the firmware puts first: device_feature_select. */
function readRegister(access: PciAccess): number {
  return access.memoryRead(WINDOW.base, 4);
}

function readAll(count: number, read: () => number): void {
  const expected = read();
  for (let index = 1; index < count; index += 1) {
    if (read() !== expected) throw new Error('A trapped read answered differently');
  }
}
