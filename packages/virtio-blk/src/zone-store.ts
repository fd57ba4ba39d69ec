import type { ZoneTable } from './zone-table.ts';

/** Keeps the zones of a disk beyond the life of the object; `node/zone-file.ts` does it in a file. */
export interface ZoneStore {
  /** Restores what was stored, or leaves the table as it is when nothing was. Throws if it is of another layout. */
  load(table: ZoneTable): void;
  /** Notes what changed since the last time. Durable after a `sync` that was begun later. */
  save(table: ZoneTable): void;
  /** Never calls back synchronously. */
  sync(done: (error: Error | null) => void): void;
  /** Makes the last `save` durable and gives everything back. */
  close(): Promise<void>;
}
