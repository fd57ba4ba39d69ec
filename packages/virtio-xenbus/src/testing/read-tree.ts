import type { Xenstore } from '@virtlab/xenstore';
import type { FoundNode } from './documented-paths.ts';

/** Every node of a store, depth first, as a privileged connection reads it. */
export async function readTree(store: Xenstore, path: string = '/'): Promise<FoundNode[]> {
  const [value, permissions, names] = await Promise.all([
    store.readText(path),
    store.getPermissions(path),
    store.directory(path),
  ]);
  const node = { path, value, permissions: permissions.map(({ access, domid }) => `${access}${domid}`) };
  const below: FoundNode[][] = [];
  for (const name of names) below.push(await readTree(store, path === '/' ? `/${name}` : `${path}/${name}`));
  return [node, ...below.flat()];
}
