import { type FileHandle, open, readFile, rename, unlink } from 'node:fs/promises';
import { decodeDump, encodeDump } from '../dump-format.ts';
import type { StoreImage } from '../store-image.ts';
import type { XenstoreStore } from '../store.ts';

/** Values may be secrets of domains. */
const DUMP_MODE = 0o600;
/** Makes the names of dumps that are under way at the same time differ. */
let writeCount = 0;

/**
 * Writes the tree as it is now. The file appears whole or not at all: it is written under another name beside it,
 * brought to the disk, and then renamed. Rejects with the file system's error, and leaves nothing behind.
 */
export async function writeDump(path: string, store: XenstoreStore): Promise<void> {
  const bytes = encodeDump(store.save());
  writeCount += 1;
  const temporary = `${path}.${process.pid}-${writeCount}.tmp`;
  let file: FileHandle | undefined;
  try {
    file = await open(temporary, 'w', DUMP_MODE);
    await file.writeFile(bytes);
    await file.sync();
    await file.close();
    file = undefined;
    await rename(temporary, path);
  } catch (error) {
    await file?.close().catch(() => undefined);
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** Reads and checks a dump. Rejects with the file system's error, or with a `DumpError` that says where it is wrong. */
export async function readDump(path: string): Promise<StoreImage> {
  return decodeDump(await readFile(path));
}
