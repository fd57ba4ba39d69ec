import { oxInteger } from './ox-number.ts';
import type { SnapshotPath } from './snapshot-node.ts';

const NODE_NAME = /^(?:\/[-A-Za-z0-9_@]+)+$/;
const HOME = /^\/local\/domain\/([-+]?\d[\d_]*)\//;

/**
 * The components of a canonical path; undefined (EINVAL) if it is none or longer than `sizeMax` bytes, counted behind
 * `/local/domain/<number>/` (utils.ml `path_validate`, store.ml `Path.of_string`). What begins with `@` is one name,
 * whatever else stands in it.
 */
export function oxPath(path: string, sizeMax: number): SnapshotPath | undefined {
  return sizeBehindHome(path) > sizeMax ? undefined : oxComponents(path);
}

/** The same without a limit, as for watches. */
export function oxComponents(path: string): SnapshotPath | undefined {
  if (path.startsWith('@')) return [path];
  if (path === '/') return [];
  return NODE_NAME.test(path) ? path.slice(1).split('/') : undefined;
}

function sizeBehindHome(path: string): number {
  const home = HOME.exec(path);
  return home === null || oxInteger(home[1]!) === undefined ? path.length : path.length - home[0].length;
}
