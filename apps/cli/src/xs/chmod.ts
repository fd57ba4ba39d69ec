import type { Command } from 'commander';
import type { XenstoreAccess, XenstorePermission } from '@virtlab/xenstore';
import { parsePermissions } from './permissions.ts';
import { type StoreFlags, XsFailure, orFail, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { jsonDocument } from './values.ts';

interface ChmodFlags extends StoreFlags {
  readonly upto: boolean;
  readonly recurse: boolean;
}

/** `virtlab xs chmod`: xenstore-chmod(1). All in one transaction. */
export function chmodCommand(): Command {
  return storeCommand('chmod')
    .argument('<key>')
    .argument('<mode...>', 'n, r, w or b and a domain id: the owner with what others may, then exceptions')
    .option('-u, --upto', 'also the nodes above, but for the root', false)
    .option('-r, --recurse', 'also the nodes below', false)
    .action(chmod);
}

function chmod(key: string, modes: readonly string[], flags: ChmodFlags): Promise<void> {
  return withStore(flags, (store) => {
    const permissions = parsePermissions(modes);
    return inTransaction(store, true, async (access, output) => {
      const changed: string[] = [];
      const change = new PermissionChange(access, permissions, changed);
      await change.apply(key);
      if (flags.upto) await change.applyAbove(key);
      if (flags.recurse) await change.applyBelow(key);
      if (flags.json) output.add(jsonDocument({ changed }));
    });
  });
}

class PermissionChange {
  readonly #access: XenstoreAccess;
  readonly #permissions: readonly XenstorePermission[];
  readonly #changed: string[];

  constructor(access: XenstoreAccess, permissions: readonly XenstorePermission[], changed: string[]) {
    this.#access = access;
    this.#permissions = permissions;
    this.#changed = changed;
  }

  async apply(path: string): Promise<void> {
    await orFail(
      this.#access.setPermissions(path, this.#permissions),
      `Error occurred setting permissions on '${path}'`,
    );
    this.#changed.push(path);
  }

  async applyAbove(path: string): Promise<void> {
    for (let at = path; ;) {
      const slash = at.lastIndexOf('/');
      if (slash < 0) throw new XsFailure(`Unable to locate path separator '/' in '${at}'`);
      if (slash === 0) return;
      at = at.slice(0, slash);
      await this.apply(at);
    }
  }

  async applyBelow(path: string): Promise<void> {
    const names = await this.#access.directory(path).catch(() => []);
    for (const name of names) {
      const child = path.endsWith('/') ? `${path}${name}` : `${path}/${name}`;
      await this.apply(child);
      await this.applyBelow(child);
    }
  }
}
