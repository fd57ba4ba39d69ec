import { type DomId, domId } from '@virtlab/abi/brands';
import { type InProcessXenstore, type XenstoreClient, createXenstore } from '@virtlab/xenstore';
import { type DeviceId, domainPath } from './paths.ts';

/** A xenstored with domain 0 and two guests, their homes made; for this package's tests. */
export interface TestStore {
  readonly daemon: InProcessXenstore;
  readonly toolstack: XenstoreClient;
  readonly frontend: XenstoreClient;
  readonly backend: XenstoreClient;
  readonly device: DeviceId;
}

export const FRONTEND: DomId = domId(1);
export const BACKEND: DomId = domId(2);

export async function createTestStore(): Promise<TestStore> {
  const daemon = createXenstore();
  const toolstack = daemon.connect(domId(0));
  for (const domain of [FRONTEND, BACKEND]) {
    const home = domainPath(domain);
    for (const directory of [home, `${home}/device`, `${home}/backend`]) {
      await toolstack.mkdir(directory);
      await toolstack.setPermissions(directory, [
        { domid: 0, access: 'n' },
        { domid: domain, access: 'r' },
      ]);
    }
    await toolstack.mkdir(`${home}/error`);
    await toolstack.setPermissions(`${home}/error`, [{ domid: domain, access: 'n' }]);
  }
  return {
    daemon,
    toolstack,
    frontend: daemon.connect(FRONTEND),
    backend: daemon.connect(BACKEND),
    device: { kind: 'vtest', index: 3, frontendDomain: FRONTEND, backendDomain: BACKEND },
  };
}

/** Lets everything that is under way in the store of this thread arrive. */
export async function settle(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}
