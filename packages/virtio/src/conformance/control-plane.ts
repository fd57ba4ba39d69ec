/** Status, features, queues' set-up and configuration: VIRTIO §2.1, §2.2, §2.5, §3.1. */
import { describe, expect, it } from 'vitest';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_SR_IOV,
  VIRTIO_F_VERSION_1,
  featureBit,
  featureBits,
} from '@virtlab/abi/virtio';
import { initializeDevice } from '../initialize-device.ts';
import { withBench } from './bench.ts';
import {
  PROBE_CONFIG_INITIAL,
  PROBE_CONFIG_SIZE,
  PROBE_CONFIG_WRITABLE_OFFSET,
  PROBE_F_BASE,
  PROBE_F_NEEDS_BASE,
  PROBE_FEATURES,
} from './probe-device.ts';
import { BASE_FEATURES, STATUS_DRIVER, STATUS_FEATURES_OK, negotiateRaw } from './raw-driver.ts';
import type { TransportSetup } from './transport-under-test.ts';

export function describeStatusMachine(setup: TransportSetup): void {
  describe('device status', () => {
    it('§2.4 a device that was reset MUST show status 0', async () => {
      await withBench(setup, async (bench) => {
        await bench.writeStatuses(0);
        expect(await bench.readStatus()).toBe(0);
        await negotiateRaw(bench);
        expect(await bench.readStatus()).toBe(STATUS_FEATURES_OK);
        await bench.writeStatuses(0);
        expect(await bench.readStatus()).toBe(0);
        expect(bench.host.driverFeatures).toBe(0n);
      });
    });

    it('§3.1.1 bits set out of order do not come into force', async () => {
      await withBench(setup, async (bench) => {
        await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        await bench.writeStatuses(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FEATURES_OK);
        expect(await bench.readStatus()).toBe(VIRTIO_CONFIG_S_ACKNOWLEDGE);
        await bench.writeStatuses(STATUS_DRIVER, STATUS_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
        expect(await bench.readStatus()).toBe(STATUS_DRIVER);
        expect(bench.device.activationCount).toBe(0);
      });
    });

    it('§2.1.1 a bit that the driver leaves out of a later write stays set (case 42)', async () => {
      await withBench(setup, async (bench) => {
        await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE, STATUS_DRIVER, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        expect(await bench.readStatus()).toBe(STATUS_DRIVER);
      });
    });

    it('§2.1.2 DEVICE_NEEDS_RESET is not the driver’s to set', async () => {
      await withBench(setup, async (bench) => {
        await negotiateRaw(bench);
        await bench.writeStatuses(STATUS_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
        expect((await bench.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).toBe(0);
      });
    });

    it('§2.1 FAILED is taken at any time, and ended by a reset (case 42)', async () => {
      await withBench(setup, async (bench) => {
        await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        await bench.writeStatuses(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FAILED);
        expect((await bench.readStatus()) & VIRTIO_CONFIG_S_FAILED).not.toBe(0);
        await bench.writeStatuses(0);
        expect(await bench.readStatus()).toBe(0);
      });
    });

    it('§2.4.1 writing 0 completes only when the device has stopped', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        bench.device.isResetHeld = true;
        const progress = { isReset: false };
        const reset = (async () => {
          await bench.transport.writeStatus(0);
          progress.isReset = true;
        })();
        for (let round = 0; round < 10; round += 1) await bench.settle();
        expect(progress.isReset).toBe(false);
        expect(bench.host.status).not.toBe(0);
        bench.device.finishReset();
        await bench.run(reset);
        expect(await bench.readStatus()).toBe(0);
        await bench.run(session.stop());
      });
    });
  });
}

export function describeNegotiation(setup: TransportSetup): void {
  describe('feature negotiation', () => {
    it('§2.2 all feature bits are offered, high ones included', async () => {
      await withBench(setup, async (bench) => {
        const offered = await bench.run(bench.transport.readDeviceFeatures());
        expect(offered & bench.device.features).toBe(bench.device.features);
        expect(offered).toBe(bench.host.deviceFeatures);
        expect(offered & featureBit(VIRTIO_F_VERSION_1)).not.toBe(0n);
      });
    });

    it('§2.2.1 what the driver accepts reaches the device, bit by bit', async () => {
      await withBench(setup, async (bench) => {
        for (const bit of [PROBE_F_BASE, 7, 23, 50, 63]) {
          await negotiateRaw(bench, featureBit(bit));
          expect(await bench.readStatus()).toBe(STATUS_FEATURES_OK);
          expect(bench.host.driverFeatures & PROBE_FEATURES).toBe(featureBit(bit));
        }
      });
    });

    const refused: readonly [string, bigint, bigint][] = [
      ['bits that were not offered', featureBits(24, VIRTIO_F_SR_IOV), 0n],
      ['a set without VIRTIO_F_VERSION_1', 0n, featureBit(VIRTIO_F_VERSION_1)],
      ['a set that the device cannot work with', featureBit(PROBE_F_NEEDS_BASE), 0n],
    ];
    it.each(refused)('§2.2.2 FEATURES_OK stays clear for %s (case 41)', async (_, more, less) => {
      await withBench(setup, async (bench) => {
        await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE, STATUS_DRIVER);
        const offered = await bench.run(bench.transport.readDeviceFeatures());
        await bench.run(bench.transport.writeDriverFeatures(((offered & BASE_FEATURES) | more) & ~less));
        await bench.writeStatuses(STATUS_FEATURES_OK);
        expect(await bench.readStatus()).toBe(STATUS_DRIVER);
        expect(bench.host.refusal).toBeDefined();
      });
    });

    it('§3.1.1 the set is fixed by FEATURES_OK (case 41)', async () => {
      await withBench(setup, async (bench) => {
        await negotiateRaw(bench, featureBit(PROBE_F_BASE));
        const before = bench.host.driverFeatures;
        await bench.run(bench.transport.writeDriverFeatures(before | featureBit(7)).catch(() => undefined));
        expect(bench.host.driverFeatures).toBe(before);
        expect(await bench.readStatus()).toBe(STATUS_FEATURES_OK);
      });
    });

    it('§3.1.1 a driver whose set is refused rejects with EPROTO and sets FAILED', async () => {
      await withBench(setup, async (bench) => {
        await expect(bench.start(featureBit(PROBE_F_NEEDS_BASE))).rejects.toMatchObject({ code: 'EPROTO' });
        expect((await bench.readStatus()) & VIRTIO_CONFIG_S_FAILED).not.toBe(0);
        expect(bench.device.activationCount).toBe(0);
      });
    });
  });
}

export function describeQueueSetup(setup: TransportSetup): void {
  describe('queue set-up', () => {
    it('§2.6 the size limit of each queue is the device’s, and 0 where there is no queue', async () => {
      await withBench(setup, async (bench) => {
        const { transport, device } = bench;
        expect(transport.deviceType).toBe(device.deviceType);
        expect(transport.queueCount).toBe(device.queueSizesMax.length);
        for (const [queue, size] of device.queueSizesMax.entries()) {
          expect(await bench.run(transport.readQueueSizeMax(queue))).toBe(size);
        }
        expect(await bench.run(transport.readQueueSizeMax(device.queueSizesMax.length))).toBe(0);
      });
    });

    it('§3.1.1 a driver that needs a queue too many rejects with EPROTO, sets FAILED and holds nothing', async () => {
      await withBench(setup, async (bench) => {
        const queueCount = bench.device.queueSizesMax.length + 1;
        const options = { aio: bench.driverAio, wanted: 0n, queueCount };
        await expect(bench.run(initializeDevice(bench.link, options))).rejects.toMatchObject({
          code: 'EPROTO',
        });
        expect((await bench.readStatus()) & VIRTIO_CONFIG_S_FAILED).not.toBe(0);
      });
    });

    it('§2.6 a device may be brought up with some of its queues', async () => {
      await withBench(setup, async (bench) => {
        const options = { aio: bench.driverAio, wanted: 0n, queueCount: 1, queueSizeMax: 4 };
        const session = await bench.run(initializeDevice(bench.link, options));
        expect(session.queues.map((queue) => queue.size)).toEqual([4]);
        expect([0, 1, 2].map((queue) => bench.host.isQueueEnabled(queue))).toEqual([true, false, false]);
        await bench.run(session.stop());
      });
    });
  });
}

export function describeConfiguration(setup: TransportSetup): void {
  describe('device configuration', () => {
    it('§2.5.2 it can be read before FEATURES_OK, any byte of it', async () => {
      await withBench(setup, async (bench) => {
        await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        const all = new Uint8Array(PROBE_CONFIG_SIZE);
        await bench.run(bench.transport.readConfigBytes(0, all));
        expect([...all]).toEqual([...expectedConfig(PROBE_CONFIG_INITIAL)]);
        const some = new Uint8Array(3);
        await bench.run(bench.transport.readConfigBytes(PROBE_CONFIG_WRITABLE_OFFSET - 1, some));
        expect([...some]).toEqual([PROBE_CONFIG_INITIAL, 0, 0]);
      });
    });

    it('§2.5.2 the generation changes between two reads when the configuration did', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        const generations: number[] = [];
        for (const value of [1, 2, 3]) {
          generations.push(await bench.run(bench.transport.readConfigGeneration()));
          bench.device.setConfig(value);
          await bench.settle();
          const bytes = await bench.run(session.readConfig(0, PROBE_CONFIG_SIZE));
          expect([...bytes]).toEqual([...expectedConfig(value)]);
        }
        expect(new Set(generations).size).toBe(generations.length);
        await bench.run(session.stop());
      });
    });

    it('§2.5.1 a read that races with changes never tears (case 40)', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        for (let value = 1; value <= 40; value += 1) {
          const reading = session.readConfig(0, PROBE_CONFIG_WRITABLE_OFFSET);
          for (let step = 0; step < value % 4; step += 1) await Promise.resolve();
          bench.device.setConfig(value);
          const bytes = await bench.run(reading);
          expect(new Set(bytes).size, `value ${value}: ${bytes.join(' ')}`).toBe(1);
        }
        await bench.run(session.stop());
      });
    });

    it('§2.3 the driver is told of a configuration change', async () => {
      await withBench(setup, async (bench) => {
        const session = await bench.start();
        let toldCount = 0;
        session.onConfigChange(() => {
          toldCount += 1;
        });
        bench.device.setConfig(9);
        await bench.until('told of the change', () => toldCount > 0);
        expect((await bench.run(session.readConfig(0, 1)))[0]).toBe(9);
        await bench.run(session.stop());
      });
    });

    it('§2.5 what the driver writes reaches the device', async (test) => {
      await withBench(setup, async (bench) => {
        if (!bench.transport.capabilities.configWrite) test.skip('capabilities: no configWrite');
        const session = await bench.start();
        await bench.run(session.writeConfig(PROBE_CONFIG_WRITABLE_OFFSET + 1, Uint8Array.of(1, 2, 3)));
        await bench.settle();
        expect([...bench.device.written.subarray(0, 6)]).toEqual([0, 1, 2, 3, 0, 0]);
        const back = await bench.run(session.readConfig(PROBE_CONFIG_WRITABLE_OFFSET, 5));
        expect([...back]).toEqual([0, 1, 2, 3, 0]);
        await bench.run(session.stop());
      });
    });
  });
}

function expectedConfig(value: number): Uint8Array {
  return new Uint8Array(PROBE_CONFIG_SIZE).fill(value, 0, PROBE_CONFIG_WRITABLE_OFFSET);
}
