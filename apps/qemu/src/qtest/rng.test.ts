import { describe, expect, it } from 'vitest';
import { VIRTIO_F_RING_PACKED, VIRTIO_ID_RNG, featureBit } from '@virtlab/abi/virtio';
import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { VIRTIO_RNG_REQUESTQ } from '@virtlab/abi/virtio-rng';
import { RING_FEATURES } from '@virtlab/virtio';
import type { ConnectVirtioPciOptions } from '@virtlab/virtio-pci';
import { createRngDriver } from '@virtlab/virtio-rng';
import { type ForeignSetup, describeForeignDevice } from '@virtlab/virtio/conformance';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { QEMU_DIVERGENCES } from './testing/divergences.ts';
import { ENTROPY_REQUEST, RequestClient } from './testing/request-client.ts';
import { SharedMachine } from './testing/shared-machine.ts';

const SLOT = 3;
const devices = (): string[] => ['-device', `virtio-rng-pci,addr=${SLOT},packed=on`];

function setup(
  shared: SharedMachine,
  name: string,
  registers: NonNullable<ConnectVirtioPciOptions['registers']> = 'bars',
): ForeignSetup {
  return {
    name: `rng, ${name}`,
    deviceType: VIRTIO_ID_RNG,
    queue: VIRTIO_RNG_REQUESTQ,
    bufferFlags: VRING_DESC_F_WRITE,
    create: () => shared.foreign(SLOT, registers),
    createClient: (session) => new RequestClient(session, VIRTIO_RNG_REQUESTQ, ENTROPY_REQUEST),
    divergences: QEMU_DIVERGENCES,
  };
}

describeWithQemu("QEMU's virtio-rng-pci, MSI-X", () => {
  const shared = new SharedMachine({ devices });
  describeForeignDevice(setup(shared, 'registers in the BARs'));
  describeForeignDevice(setup(shared, 'registers through the PCI_CFG window', 'window'));
  describeForeignDevice(setup(shared, 'legacy registers', 'legacy'));

  describe('our driver', () => {
    const rings = [RING_FEATURES, 0n, RING_FEATURES | featureBit(VIRTIO_F_RING_PACKED)];
    it.each(rings)('§5.4.6 entropy arrives, many reads at once, ring features %i', async (ringFeatures) => {
      await using link = await shared.connect(SLOT);
      await using driver = await createRngDriver(link, { aio: shared.aio, ringFeatures });
      const blocks = Array.from({ length: 40 }, () => new Uint8Array(256));
      const sizes = await Promise.all(blocks.map((block) => driver.read(block)));
      expect(sizes.every((size) => size > 0 && size <= 256)).toBe(true);
      const seen = new Set(blocks.map((block) => Buffer.from(block.subarray(0, 16)).toString('hex')));
      expect(seen.size, 'no two reads begin alike').toBe(blocks.length);
    });

    it('§5.4.6 a large buffer is filled as far as the device likes, and reads end with the driver', async () => {
      await using link = await shared.connect(SLOT);
      const driver = await createRngDriver(link, { aio: shared.aio });
      const size = await driver.read(new Uint8Array(4096));
      expect(size).toBeGreaterThan(0);
      const ending = Promise.allSettled(Array.from({ length: 20 }, () => driver.read(new Uint8Array(64))));
      await driver.stop();
      const outcomes = await ending;
      expect(outcomes.every(({ status }) => status === 'fulfilled' || status === 'rejected')).toBe(true);
      await expect(driver.read(new Uint8Array(1))).rejects.toMatchObject({ code: 'ENODEV' });
    });
  });
});

describeWithQemu("QEMU's virtio-rng-pci, INTx", () => {
  const shared = new SharedMachine({ devices, vectorCountMax: 0 });
  describeForeignDevice(setup(shared, 'INTx'));
  describeForeignDevice(setup(shared, 'INTx, legacy registers', 'legacy'));

  it('the driver has gone down to the line, and each of its calls was one', async () => {
    await using link = await shared.connect(SLOT);
    expect(link.transport.callMode).toBe('intx');
    const before = shared.machine.interrupts.statistics.lineCount;
    await using driver = await createRngDriver(link, { aio: shared.aio });
    for (let read = 0; read < 5; read += 1) await driver.read(new Uint8Array(8));
    expect(shared.machine.interrupts.statistics.lineCount).toBeGreaterThan(before);
    expect(shared.machine.interrupts.statistics.messageCount).toBe(0);
  });
});
