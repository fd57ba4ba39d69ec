import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { VIRTIO_XENBUS_CONFIG_PAGE, VIRTIO_XENBUS_CONFIG_SIZE_MAX } from '@virtlab/abi/virtio-xenbus';
import { memoryRegion } from '@virtlab/guest-memory';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceConfigPage } from './device-config-page.ts';
import { DriverConfigPage } from './driver-config-page.ts';
import type { ConfigWriterData } from './testing/config-writer.ts';

const PAGE = VIRTIO_XENBUS_CONFIG_PAGE.size;

/** Both views of one page, which lies somewhere in a larger memory. */
function pair(configSize: number): { driver: DriverConfigPage; device: DeviceConfigPage } {
  const region = memoryRegion(new ArrayBuffer(3 * PAGE));
  const driver = new DriverConfigPage(region, PAGE);
  return { driver, device: new DeviceConfigPage({ region, offset: PAGE, size: PAGE }, configSize) };
}

describe('configuration page', () => {
  it('the layout is that of the document: 1024 bytes of words, then the configuration', () => {
    const { offset, width } = VIRTIO_XENBUS_CONFIG_PAGE;
    expect([offset.generation, offset.size, offset.device_status, offset.write_sequence]).toEqual([
      0, 4, 8, 12,
    ]);
    expect([offset.write_data, width.write_data, offset.config, width.config]).toEqual([32, 256, 1024, 2048]);
  });

  it('any part of any configuration reads as it was shown', () => {
    const sizes = fc.integer({ min: 1, max: VIRTIO_XENBUS_CONFIG_SIZE_MAX });
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (size, from, length) => {
        const { driver, device } = pair(size);
        const config = Uint8Array.from({ length: size }, (_, index) => index * 7);
        device.showConfig(config, false);
        const offset = from % size;
        const out = new Uint8Array((length % (size - offset)) + 1);
        expect(driver.read(offset, out)).toBe(true);
        expect(out).toEqual(config.slice(offset, offset + out.length));
        expect(driver.size).toBe(size);
      }),
    );
  });

  it('§2.5.2 the generation changes with the configuration, and only then unless it is announced', () => {
    const { driver, device } = pair(4);
    const seen = [driver.generation];
    for (const [bytes, always] of [
      [[0, 0, 0, 0], false],
      [[1, 0, 0, 0], false],
      [[1, 0, 0, 0], true],
    ] as const) {
      device.showConfig(Uint8Array.from(bytes), always);
      seen.push(driver.generation);
    }
    expect(seen).toEqual([0, 0, 2, 4]);
  });

  it('a write waits in the mailbox until it is taken, once', () => {
    const { driver, device } = pair(8);
    expect([driver.isWriteTaken, device.takeWrite()]).toEqual([true, undefined]);
    driver.postWrite(3, Uint8Array.of(9, 8));
    expect(driver.isWriteTaken).toBe(false);
    expect(device.takeWrite()).toEqual({ offset: 3, bytes: Uint8Array.of(9, 8) });
    expect([driver.isWriteTaken, device.takeWrite()]).toEqual([false, undefined]);
    device.acknowledgeWrite();
    expect(driver.isWriteTaken).toBe(true);
    driver.postWrite(7, Uint8Array.of(1, 1));
    expect(device.takeWrite()).toBe('malformed');
    expect(() => driver.postWrite(0, new Uint8Array(257))).toThrow(RangeError);
  });

  it('§2.5.1 a copy is never torn, though another thread changes the configuration all the time', async () => {
    const page = new SharedArrayBuffer(PAGE);
    const workerData: ConfigWriterData = { page, configSize: VIRTIO_XENBUS_CONFIG_SIZE_MAX, rounds: 30_000 };
    const worker = new Worker(new URL('./testing/config-writer.ts', import.meta.url), {
      workerData,
      execArgv: ['--conditions=@virtlab/source'],
    });
    const writer = { isDone: false };
    const ended = once(worker, 'exit').then(() => {
      writer.isDone = true;
    });
    const driver = new DriverConfigPage(memoryRegion(page), 0);
    const out = new Uint8Array(VIRTIO_XENBUS_CONFIG_SIZE_MAX);
    let torn = 0;
    while (!writer.isDone) {
      for (let tries = 0; tries < 200; tries += 1) {
        if (driver.read(0, out) && out.some((byte) => byte !== out[0])) torn += 1;
      }
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
    }
    await ended;
    expect(torn).toBe(0);
    expect(driver.generation).toBe(60_000);
  });
});
