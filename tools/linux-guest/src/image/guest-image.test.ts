import { readFileSync, readdirSync, statSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { guestAvailability } from '../availability.ts';
import { describeGuests } from '../testing/describe-guests.ts';
import { TemporaryDirectory } from '../testing/temporary-directory.ts';
import { guestImage } from './guest-image.ts';

describeGuests('guestImage', () => {
  it('is made once of the same sources, and leaves nothing unfinished', () => {
    using directory = new TemporaryDirectory();
    const options = { cacheDirectory: directory.file('cache') };
    const image = guestImage(options);
    const { mtimeMs } = statSync(image.kernelPath);
    expect(guestImage(options)).toEqual(image);
    expect(statSync(image.kernelPath).mtimeMs).toBe(mtimeMs);
    expect(readdirSync(options.cacheDirectory)).toHaveLength(2);
  });

  it('is another archive with more programs or modules, and the same kernel', () => {
    using directory = new TemporaryDirectory();
    const options = { cacheDirectory: directory.file('cache') };
    const image = guestImage(options);
    const larger = guestImage({ ...options, programs: ['tune2fs'], modules: ['virtio_console'] });
    expect(larger.kernelPath).toBe(image.kernelPath);
    expect(statSync(larger.initramfsPath).size).toBeGreaterThan(statSync(image.initramfsPath).size);
    expect(() => guestImage({ ...options, programs: ['no-such-program'] })).toThrow('no-such-program');
    expect(() => guestImage({ ...options, modules: ['no_such_module'] })).toThrow('no_such_module.ko');
  });
});

describeGuests('the archive of a guest', () => {
  it('ends with room for what the firmware still has in use when QEMU loads it', () => {
    using directory = new TemporaryDirectory();
    const archive = readFileSync(guestImage({ cacheDirectory: directory.file('cache') }).initramfsPath);
    expect(archive.subarray(-(256 << 10)).every((byte) => byte === 0)).toBe(true);
  });
});

describe('guestAvailability', () => {
  it('names the Debian packages that are missing', () => {
    using directory = new TemporaryDirectory();
    vi.stubEnv('VIRTLAB_GUEST_KERNEL', directory.path);
    try {
      expect(guestAvailability()).toEqual({
        status: 'missing',
        reason: expect.stringMatching(/Debian package.*linux-image-cloud-amd64|guests run programs of Linux/),
      });
      expect(() => guestImage()).toThrow(expect.objectContaining({ code: 'missing' }));
    } finally {
      vi.unstubAllEnvs();
    }
  });
});
