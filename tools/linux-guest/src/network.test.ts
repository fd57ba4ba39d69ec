import { expect, it } from 'vitest';
import { streamNet } from './guest-device.ts';
import { type LinuxGuest, startLinuxGuest } from './linux-guest.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { TemporaryDirectory } from './testing/temporary-directory.ts';

function configure(guest: LinuxGuest, address: string): Promise<string> {
  return guest.output(`ip addr add ${address}/24 dev eth0 && ip link set eth0 up`);
}

/** A command that receives what one connection sends; its own direction stays open, or the sender would stop early. */
const RECEIVE = 'mkfifo /tmp/silence; exec 5<>/tmp/silence; nc -l -p 5000 <&5 | sha256sum';
const SEND = 'until nc 10.0.0.2 5000 </tmp/file 2>/dev/null; do usleep 20000; done; sha256sum </tmp/file';

describeGuests('two guests on a cable', () => {
  it('ping each other, transfer 1 MiB, and notice that the cable is pulled', async () => {
    using directory = new TemporaryDirectory();
    const socketPath = directory.file('cable.sock');
    await using first = await startLinuxGuest({
      devices: [streamNet({ socketPath, isServer: true, mac: '52:54:00:00:00:01' })],
    });
    await using second = await startLinuxGuest({
      devices: [streamNet({ socketPath, isServer: false, mac: '52:54:00:00:00:02' })],
    });
    await Promise.all([configure(first, '10.0.0.1'), configure(second, '10.0.0.2')]);
    expect(await first.output('cat /sys/class/net/eth0/address')).toBe('52:54:00:00:00:01');
    expect(await first.output('ping -c 3 -i 0.1 10.0.0.2')).toContain('3 packets received, 0% packet loss');
    expect(await second.output('ping -c 3 -i 0.1 10.0.0.1')).toContain('3 packets received, 0% packet loss');

    await first.output('dd if=/dev/urandom of=/tmp/file bs=64k count=16 2>/dev/null');
    const [received, sent] = await Promise.all([second.output(RECEIVE), first.output(SEND)]);
    expect(received).toBe(sent);

    await first.setLink('net0', false);
    await first.waitUntil('[ "$(cat /sys/class/net/eth0/carrier)" = 0 ]');
    expect((await first.run('ping -c 1 -W 1 10.0.0.2')).status).not.toBe(0);
    await first.setLink('net0', true);
    await first.waitUntil('ping -c 1 -W 1 10.0.0.2');
    await Promise.all([first.powerOff(), second.powerOff()]);
  });
});
