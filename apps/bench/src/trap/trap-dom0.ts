// Domain 0 of the trap benchmark: an HVM guest with two devices that do nothing with their kicks.
import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import type { PollingOptions } from '@virtlab/aio/node';
import { type Domain, startDom0 } from '@virtlab/domain';
import type { VirtioDevice } from '@virtlab/virtio';
import { CONSOLE_UP } from '../lab/machine.ts';
import type { TrapRequest } from './trap-messages.ts';

export interface TrapGuestPlan {
  readonly module: string;
  readonly polling: PollingOptions | undefined;
}

const RAM_SIZE = 16 << 20;
/** One is kicked by doorbells, the other by trapped writes. */
const DEVICE_COUNT = 2;

export async function boot(domain: Domain): Promise<void> {
  const { toolstack, devices } = await startDom0(domain);
  domain.connection.onRequest(async (message) => {
    if ('op' in (message as TrapRequest)) return domain.aio.statistics.wakeUps;
    const { module, polling } = message as TrapGuestPlan;
    const program = { module, args: { polling } };
    const guest = await toolstack.createGuest({ name: 'trap', type: 'hvm', ramSize: RAM_SIZE, program });
    for (let index = 0; index < DEVICE_COUNT; index += 1) {
      await devices.plug(guest, index, idleDevice(), `idle${index}`);
    }
    await guest.start();
    return guest.domain;
  });
  domain.console(CONSOLE_UP);
}

function idleDevice(): VirtioDevice {
  return {
    deviceType: VIRTIO_ID_RNG,
    features: 0n,
    queueSizesMax: [8],
    configSize: 0,
    readConfig: () => {},
    activate: () => {},
    processQueue: () => {},
    reset: () => {},
  };
}
