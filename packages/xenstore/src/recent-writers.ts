import type { StoreConnection } from './store-connection.ts';

/** Who changed a path last. Id 0: nobody, its owner died. */
export interface RecentWrite {
  connectionId: number;
  domid: number;
  at: number;
}

const CAPACITY = 4096;

/**
 * Who wrote what lately. A failing transaction asks; a node itself does not remember its writer, which would cost
 * every node of the store a word for the sake of the few that transactions fight over. The oldest writes make room.
 */
export class RecentWriters {
  readonly #writes = new Map<string, RecentWrite>();

  note(path: string, writer: StoreConnection | undefined, at: number): void {
    const connectionId = writer?.sequence ?? 0;
    const domid = writer?.domid ?? 0;
    const known = this.#writes.get(path);
    if (known !== undefined) {
      known.connectionId = connectionId;
      known.domid = domid;
      known.at = at;
      return;
    }
    if (this.#writes.size >= CAPACITY) {
      const [oldest] = this.#writes.keys();
      this.#writes.delete(oldest!);
    }
    this.#writes.set(path, { connectionId, domid, at });
  }

  find(path: string): RecentWrite | undefined {
    return this.#writes.get(path);
  }

  clear(): void {
    this.#writes.clear();
  }
}
