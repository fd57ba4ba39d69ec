import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Testpmd, startTestpmd } from './testpmd.ts';
import type { VdevArguments } from './testpmd-options.ts';
import { describeWithTestpmd } from './testing/describe-with-testpmd.ts';
import { OURS, THEIRS, macText } from './testing/frames.ts';
import { NetDaemon } from './testing/net-daemon.ts';

/** Frames that are on the switch when forwarding stops: what two rings of 256 entries hold, both ways. */
const ON_THEIR_WAY_MAX = 4 * 256;
const ENOUGH = 10_000;

describeWithTestpmd("testpmd's net_virtio_user on virtlab vhost-user-net", () => {
  let folder: string;
  let sockets: readonly string[];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-dpdk-'));
    sockets = ['one', 'other'].map((name) => join(folder, name));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const start = async (vdev: VdevArguments): Promise<Testpmd> => {
    const macs = [OURS, THEIRS];
    const ports = sockets.map((path, at) => {
      return { kind: 'net_virtio_user', path, vdev: { ...vdev, mac: macText(macs[at]!) } } as const;
    });
    const peers = [`--eth-peer=0,${macText(THEIRS)}`, `--eth-peer=1,${macText(OURS)}`];
    const args = [...peers, '--port-topology=loop'];
    return await startTestpmd({ ports, forwardMode: 'macswap', args });
  };

  it.each([
    ['split', {}],
    ['split, vectorized', { in_order: 0, mrg_rxbuf: 0, vectorized: 1 }],
    ['packed', { packed_vq: 1 }],
  ] as const)('macswap, %s: frames go round between two ports of a switch', async (_, vdev) => {
    const places = sockets.flatMap((path) => ['--socket-path', path]);
    const daemon = await NetDaemon.start(...places, '--allow-shrink');
    const testpmd = await start(vdev);
    await testpmd.command('start tx_first 2');
    await testpmd.counted(({ rxPackets }) => rxPackets >= ENOUGH);
    const [one, other] = await testpmd.stop();
    for (const [from, to] of [
      [one!, other!],
      [other!, one!],
    ]) {
      expect(to!.rxPackets).toBeLessThanOrEqual(from!.txPackets + ON_THEIR_WAY_MAX);
      expect(from!.txPackets - to!.rxPackets).toBeLessThanOrEqual(ON_THEIR_WAY_MAX);
    }
    expect(await testpmd.quit()).toBe(0);
    await daemon.end();
  });

  it('without --allow-shrink memory that is not sealed is refused, and the next is served', async () => {
    const daemon = await NetDaemon.start('--socket-path', sockets[0]!);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      // It is at its prompt all the same, with a port that does not start.
      const testpmd = await startTestpmd({ ports: [{ kind: 'net_virtio_user', path: sockets[0]! }] });
      expect(testpmd.log, 'SET_MEM_TABLE').toMatch(/NACK to request type \(5\)/);
      await testpmd.kill();
    }
    await daemon.end();
  });
});
