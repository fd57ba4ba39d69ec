import { describe, expect, it } from 'vitest';
import { FatVolume, type SynchronousDisk } from './fat-volume.ts';

function memoryDisk(sectorCount: number): SynchronousDisk & { readonly bytes: Uint8Array; flushes: number } {
  const bytes = new Uint8Array(sectorCount * 512);
  return {
    bytes,
    sectorCount,
    flushes: 0,
    readSync: (sector, into) => into.set(bytes.subarray(sector * 512, sector * 512 + into.length)),
    writeSync: (sector, from) => bytes.set(from, sector * 512),
    flushSync() {
      this.flushes += 1;
    },
  };
}

describe('FatVolume', () => {
  it('keeps files over a remount', async () => {
    const disk = memoryDisk(16384);
    const content = Uint8Array.from({ length: 100_001 }, (_value, index) => (index * 7) & 0xff);
    {
      using volume = await FatVolume.open(disk);
      volume.format();
      expect(volume.mount()).toBe(true);
      volume.mkdir('/d');
      volume.writeFile('/d/data.bin', content);
      volume.writeFile('/empty', new Uint8Array(0));
    }
    using again = await FatVolume.open(disk);
    expect(again.mount()).toBe(true);
    expect(again.readFile('/d/data.bin')).toEqual(content);
    expect(again.list('/')).toEqual([
      { name: 'd', size: 0 },
      { name: 'empty', size: 0 },
    ]);
    expect(disk.flushes).toBeGreaterThan(0);
  });

  it('says so when the disk has no FAT filesystem', async () => {
    using volume = await FatVolume.open(memoryDisk(16384));
    expect(volume.mount()).toBe(false);
  });

  it('passes on why the disk failed', async () => {
    const disk = memoryDisk(16384);
    using volume = await FatVolume.open({
      ...disk,
      writeSync: () => {
        throw new Error('IOERR at sector 0');
      },
    });
    expect(() => volume.format()).toThrow(
      expect.objectContaining({ cause: new Error('IOERR at sector 0') }) as Error,
    );
  });
});
