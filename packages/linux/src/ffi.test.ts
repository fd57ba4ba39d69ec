import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

describe('a machine without the FFI', () => {
  beforeEach(() => {
    vi.stubEnv('VIRTLAB_NO_FFI', '1');
    vi.resetModules();
  });
  afterEach(() => vi.unstubAllEnvs());

  it('imports, and says why nothing can be done', async () => {
    const { linuxFfi } = await import('./index.ts');
    expect(linuxFfi()).toEqual({
      available: false,
      reason: expect.stringContaining('VIRTLAB_NO_FFI') as string,
    });
  });

  it('every kernel call throws ENOSYS with a sentence', async () => {
    const linux = await import('./index.ts');
    const calls: (() => unknown)[] = [
      () => linux.memfdCreate('x', 4096),
      () => linux.mapShared(0, 4096),
      () => linux.EventFd.create(),
      () => linux.EventFd.fromFd(0),
      () => new linux.PollSet(),
      () => linux.watchReadable(0, () => {}),
      () => linux.socketPair(),
      () => linux.UnixStream.connect('/nowhere'),
      () => linux.UnixStreamServer.listen('/nowhere', () => {}),
      () => linux.dupFd(0),
      () => linux.closeFd(999),
      () => linux.punchHole(999, 0, 1),
      () => linux.zeroRange(999, 0, 1),
      () => linux.tryLockFile(999, 'exclusive'),
    ];
    for (const call of calls) {
      expect(call).toThrow(expect.objectContaining({ name: 'LinuxError', code: 'ENOSYS' }));
      expect(call).toThrow(/not possible here: The native FFI is switched off/);
    }
  });
});
