import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { openFdCount } from '@virtlab/linux';
import { RING_FEATURES } from '@virtlab/virtio';
import type { NetDriver } from '@virtlab/virtio-net';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { type Testpmd, startTestpmd } from './testpmd.ts';
import { describeWithTestpmd } from './testing/describe-with-testpmd.ts';
import { withDrivenCard } from './testing/driven-card.ts';
import { Inbox, exchange } from './testing/exchange.ts';
import { experiment, withMacsSwapped } from './testing/frames.ts';

const DRIVER_PROGRAM = fileURLToPath(new URL('testing/driver-program.ts', import.meta.url));
const pause = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 5));
const SIZES = [60, 61, 512, 1513, 1514];

describeWithTestpmd("lives of our driver and of testpmd's net_vhost", () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtlab-dpdk-'));
  const path = join(folder, 'net.sock');
  let fdCount = 0;
  beforeEach(() => void (fdCount = openFdCount()));
  afterEach(() => expect(openFdCount()).toBe(fdCount));
  afterAll(() => rmSync(folder, { recursive: true }));

  const start = async (): Promise<Testpmd> => {
    const testpmd = await startTestpmd({ ports: [{ kind: 'net_vhost', path }], forwardMode: 'macswap' });
    await testpmd.start();
    return testpmd;
  };

  const isServed = async (driver: NetDriver, rounds = 10): Promise<void> => {
    const frames = Array.from({ length: rounds }, (_, at) => SIZES.map((size) => experiment(size, at)));
    const { wanted, found } = await exchange(driver, new Inbox(driver), frames.flat(), withMacsSwapped);
    expect(found).toEqual(wanted);
  };

  it('testpmd killed and started again: the driver goes on where it was, and sees no more than a pause', async () => {
    let testpmd = await start();
    const link = { reconnect: { withinMs: 15_000 } };
    await withDrivenCard(path, { link }, async (driver, { transport }) => {
      for (let life = 0; life < 2; life += 1) {
        await isServed(driver);
        expect(transport.reconnectCount).toBe(life);
        if (life === 1) break;
        await testpmd.kill();
        testpmd = await start();
        // The link looks for the socket from time to time.
        while (transport.reconnectCount === life) await pause();
      }
      expect(driver.failure).toBeUndefined();
    });
    await testpmd.kill();
  });

  it.each([
    ['split', RING_FEATURES],
    ['packed', RING_FEATURES | featureBit(VIRTIO_F_RING_PACKED)],
  ])('testpmd killed and nobody else there: the card is gone, %s', async (_, ringFeatures) => {
    const testpmd = await start();
    await withDrivenCard(path, { driver: { ringFeatures } }, async (driver, { transport }) => {
      await isServed(driver);
      await testpmd.kill();
      await expect(transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
      while (driver.failure === undefined) await pause();
      expect(driver.failure).toMatch(/closed the connection/);
      expect(() => driver.send(experiment(60, 0))).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    });
  });

  it('a driver that is killed with frames on their way leaves the card to the next', async () => {
    const testpmd = await start();
    for (let life = 0; life < 2; life += 1) {
      const child = spawn(process.execPath, ['--conditions=@virtlab/source', DRIVER_PROGRAM, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [word] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
      expect(String(word)).toBe('busy\n');
      child.kill('SIGKILL');
      await once(child, 'exit');
      await withDrivenCard(path, {}, async (driver) => await isServed(driver));
    }
    expect(testpmd.isRunning).toBe(true);
    expect(await testpmd.quit()).toBe(0);
  });
});
