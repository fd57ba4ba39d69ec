import { expect, it } from 'vitest';
import { virtioRng } from './guest-device.ts';
import { startLinuxGuest } from './linux-guest.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { rejection } from './testing/rejection.ts';

describeGuests('a guest', () => {
  it('runs commands side by side and gives their status and all their bytes', async () => {
    await using guest = await startLinuxGuest({ devices: [virtioRng()] });
    expect(await guest.output('uname -r')).toBe(guest.kernelRelease);
    expect(await guest.output('cat /sys/class/misc/hw_random/rng_current')).toBe('virtio_rng.0');

    const bytes = await guest.run(
      `i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %03o $i)"; i=$((i+1)); done`,
    );
    expect(bytes.bytes).toEqual(Uint8Array.from({ length: 256 }, (_, index) => index));
    expect(await guest.run('echo out; echo err >&2; exit 7')).toMatchObject({
      status: 7,
      output: 'out\nerr\n',
    });
    expect(await guest.run('kill -9 $$')).toMatchObject({ status: 137 });
    expect((await guest.run(`: ${'x'.repeat(16_000)}; cat`)).status).toBe(0);
    expect((await guest.run('yes | head -c 262144')).bytes).toHaveLength(262_144);
    await expect(guest.run('yes | head -c 262145')).rejects.toMatchObject({ code: 'output' });
    await expect(guest.output('echo why; false')).rejects.toMatchObject({ code: 'status' });

    const waits = guest.run('while [ ! -e /tmp/flag ]; do usleep 10000; done; echo seen');
    await guest.output('echo virtlab end 1 >/dev/console; touch /tmp/flag');
    expect((await waits).output).toBe('seen\n');
    expect(guest.console).toContain('virtlab end 1');
  });

  it('kills a command that takes too long, with its children', async () => {
    await using guest = await startLinuxGuest();
    await expect(guest.run('sleep 1234 & sleep 1234', { timeoutMs: 1000 })).rejects.toMatchObject({
      code: 'timeout',
    });
    await guest.waitUntil('! pidof sleep');
  });

  it('is reset while it works, and says so', async () => {
    await using guest = await startLinuxGuest({ cpuCount: 2 });
    const { bootId } = guest;
    const running = rejection(guest.run('sleep 1234'));
    await guest.output('touch /tmp/before');
    await guest.reset();
    expect(await running).toMatchObject({ code: 'restarted' });
    expect(guest.bootId).not.toBe(bootId);
    expect(await guest.output('ls /tmp; nproc')).toBe('2');
  });

  it('reports a kernel that gives up, and its words', async () => {
    await using guest = await startLinuxGuest();
    const end = await guest.run('echo c >/proc/sysrq-trigger; sleep 60', { timeoutMs: 60_000 }).catch(String);
    expect(end).toMatch(/the guest's kernel gave up[^]*sysrq triggered crash/);
    await expect(guest.output('true')).rejects.toMatchObject({ code: 'panic' });
  });

  it('reports a QEMU that does not start, and a kernel that does not', async () => {
    await expect(startLinuxGuest({ arguments: ['-no-such-argument'] })).rejects.toMatchObject({
      code: 'exited',
      message: expect.stringContaining('no-such-argument'),
    });
    const kernelArguments = ['rdinit=/no/such/program', 'root=/dev/none'];
    await expect(startLinuxGuest({ kernelArguments })).rejects.toMatchObject({ code: 'panic' });
    await expect(startLinuxGuest({ bootTimeoutMs: 1 })).rejects.toMatchObject({ code: 'timeout' });
    await expect(startLinuxGuest({ memorySize: 1000 })).rejects.toThrow(RangeError);
  });
});
