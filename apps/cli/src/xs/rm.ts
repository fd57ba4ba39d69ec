import type { Command } from 'commander';
import type { XenstoreAccess } from '@virtlab/xenstore';
import { type StoreFlags, orFail, storeCommand, withStore } from './session.ts';
import { inTransaction } from './transaction.ts';
import { jsonDocument } from './values.ts';

interface RmFlags extends StoreFlags {
  readonly tidy: boolean;
}

/** `virtlab xs rm`: xenstore-rm(1). All in one transaction. */
export function rmCommand(): Command {
  return storeCommand('rm')
    .argument('<key...>')
    .option('-t, --tidy', 'also remove the parents that are left without children and value', false)
    .action(rm);
}

function rm(keys: readonly string[], flags: RmFlags): Promise<void> {
  return withStore(flags, (store) =>
    inTransaction(store, true, async (access, output) => {
      const removed: string[] = [];
      for (const key of keys) {
        let path: string | undefined = key;
        while (path !== undefined) {
          await orFail(access.rm(path), `could not remove path ${path}`);
          removed.push(path);
          path = flags.tidy ? await emptyParent(access, path) : undefined;
        }
      }
      if (flags.json) output.add(jsonDocument({ removed }));
    }),
  );
}

/** The path above, if that node has neither a value nor children. */
async function emptyParent(access: XenstoreAccess, path: string): Promise<string | undefined> {
  const slash = path.lastIndexOf('/');
  if (slash <= 0) return undefined;
  const parent = path.slice(0, slash);
  try {
    const isEmpty = (await access.read(parent)).length === 0 && (await access.directory(parent)).length === 0;
    return isEmpty ? parent : undefined;
  } catch {
    return undefined; // what cannot be looked at stays
  }
}
