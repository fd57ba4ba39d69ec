import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { enumeratePci } from '@virtlab/virtio-pci';
import { QemuMachine, slotBdf } from './qemu-machine.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { SharedMachine, settle } from './testing/shared-machine.ts';

const HIGH_MEMORY = 0x20_0000;

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describeWithQemu('a QEMU of ours', () => {
  const shared = new SharedMachine({ devices: () => ['-device', 'virtio-rng-pci,addr=3'] });

  it('has the functions of a q35 and those that it was given', () => {
    const found = enumeratePci(shared.machine.access).map(({ bdf, vendorId }) => [bdf, vendorId]);
    expect(found).toContainEqual([slotBdf(3), 0x1af4]);
    expect(found).toContainEqual([0, 0x8086]);
    expect(shared.machine.messages).toBe('');
  });

  it('sees the memory that we see, and the reverse', () => {
    const { access, memory } = shared.machine;
    access.memoryWrite64(HIGH_MEMORY, 0x1122_3344_5566_7788n);
    access.memoryWrite(HIGH_MEMORY + 8, 1, 0xab);
    expect(access.memoryRead(HIGH_MEMORY + 8, 1)).toBe(0xab);
    expect(memory.u32[HIGH_MEMORY / 4]).toBe(0x5566_7788);
    memory.u32[HIGH_MEMORY / 4] = 0xdead_beef;
    expect(access.memoryRead(HIGH_MEMORY, 4)).toBe(0xdead_beef);
    expect(access.memoryRead(HIGH_MEMORY, 2)).toBe(0xbeef);
    expect(access.memoryRead64(HIGH_MEMORY)).toBe(0x1122_3344_dead_beefn);
  });

  it('is not there where nothing is: all ones in configuration space', () => {
    const { access } = shared.machine;
    expect(access.configRead(slotBdf(20), 0, 4)).toBe(0xffff_ffff);
    expect(access.configRead(slotBdf(3), 256, 2)).toBe(0xffff);
    expect(access.portRead(0xae80, 2)).toBe(0xffff);
  });

  it('takes writes without an answer each, many in one system call', () => {
    const { qtest, access } = shared.machine;
    const { sends, waits } = { ...qtest.statistics };
    qtest.batch(() => {
      for (let at = 0; at < 100; at += 1) access.memoryWrite(HIGH_MEMORY + 4 * at, 4, at);
    });
    expect(qtest.statistics).toMatchObject({ sends: sends + 1, waits });
    expect(access.memoryRead(HIGH_MEMORY + 4 * 99, 4)).toBe(99);
    for (let at = 0; at < 3000; at += 1) access.memoryWrite(HIGH_MEMORY, 4, at);
    expect(access.memoryRead(HIGH_MEMORY, 4)).toBe(2999);
  });

  it('refuses what it does not know, and goes on', () => {
    const { qtest } = shared.machine;
    expect(() => qtest.ask('nonsense 1')).toThrow(/EPROTO.*nonsense/);
    expect(qtest.ask('readb 0x200000')).toMatch(/^0x/);
    expect(() => shared.machine.execute('no-such-command')).toThrow(/EPROTO.*no-such-command/);
    expect(shared.machine.execute('query-status')).toMatchObject({ running: true });
  });

  it('that does not start says why, and leaves nothing', async () => {
    const before = openFdCount();
    using aio = createNodeAioContext();
    const machine = new QemuMachine({ aio, devices: () => ['-device', 'no-such-device'] });
    expect(() => machine.qtest.ask('readb 0x0')).toThrow(/ENODEV.*no-such-device/s);
    expect(machine.access.configRead(0, 0, 4)).toBe(0xffff_ffff);
    expect(machine.access.memoryRead64(0)).toBe(0xffff_ffff_ffff_ffffn);
    expect(await machine.close()).toEqual([]);
    expect([openFdCount(), aio.leaks()]).toEqual([before, []]);
  });

  it('that is stopped by a signal is given up after a while', async () => {
    using aio = createNodeAioContext();
    const machine = new QemuMachine({ aio, devices: () => [], timeoutMs: 50 });
    machine.qtest.settle();
    const pid = machine.pid!;
    process.kill(pid, 'SIGSTOP');
    expect(() => machine.qtest.ask('readb 0x0')).toThrow('ETIMEDOUT');
    expect(machine.access.configRead(0, 0, 2)).toBe(0xffff);
    machine.kill();
    await machine.close();
    expect(isRunning(pid)).toBe(false);
  });

  it('dies with the process that started it, however that ends', async () => {
    const program = new URL('testing/start-and-wait.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, ['--conditions=@virtlab/source', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    expect(isRunning(pid)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'close');
    while (isRunning(pid)) await settle();
    expect(pid).toBeGreaterThan(0);
  });
});
