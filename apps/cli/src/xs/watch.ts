import type { Command } from 'commander';
import type { XenstoreWatchEvent } from '@virtlab/xenstore';
import type { XenstoreClient } from '@virtlab/xenstore/node/client';
import { wholeNumber } from '../option-values.ts';
import { type StoreFlags, XsFailure, orFail, storeCommand, withStore } from './session.ts';

interface WatchFlags extends StoreFlags {
  readonly number?: number;
}

/** `virtlab xs watch`: xenstore-watch(1). The first event of each watch says that it is set. */
export function watchCommand(): Command {
  return storeCommand('watch')
    .argument('<key...>', 'paths, @introduceDomain, @releaseDomain')
    .option('-n, --number <count>', 'end after so many events', wholeNumber)
    .action(watch);
}

function watch(keys: readonly string[], flags: WatchFlags): Promise<void> {
  return withStore(flags, (store) => printEvents(store, keys, flags));
}

/** Nothing is printed before all watches are set. Ends after the wanted number of events, or with the connection. */
async function printEvents(store: XenstoreClient, keys: readonly string[], flags: WatchFlags): Promise<void> {
  const { number: wanted = Number.POSITIVE_INFINITY, json } = flags;
  const enough = Promise.withResolvers<void>();
  const early: XenstoreWatchEvent[] = [];
  let areSet = false;
  let printedCount = 0;
  const print = ({ path, token }: XenstoreWatchEvent): void => {
    if (printedCount >= wanted) return;
    printedCount += 1;
    process.stdout.write(json ? `${JSON.stringify({ path, watch: token })}\n` : `${path}\n`);
    if (printedCount === wanted) enough.resolve();
  };
  const take = (event: XenstoreWatchEvent): void => void (areSet ? print(event) : early.push(event));
  for (const key of keys) {
    await orFail(store.watch(key, take, { token: key }), `Unable to add watch on ${key}`);
  }
  areSet = true;
  for (const event of early) print(event);
  if (wanted === 0) return;
  const lost = store.closed.then((reason) => {
    throw new XsFailure(reason ?? 'the connection was closed');
  });
  await Promise.race([enough.promise, lost]);
}
