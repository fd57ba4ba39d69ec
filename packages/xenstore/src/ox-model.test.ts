import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { oxDirectory, oxRead } from './ox-operations.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';
import { SnapshotMap } from './snapshot-map.ts';
import { type StoreConnection, type Transaction, XenstoreStore } from './store.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const runs = (count: number): { seed: number; numRuns: number } => ({
  seed: SEED,
  numRuns: Math.ceil(count * CAMPAIGN),
});
const LIMIT_MS = 30_000 * Math.max(1, CAMPAIGN);

type Kind = 'write' | 'mkdir' | 'rm' | 'read' | 'directory' | 'chmod';

interface Operation {
  readonly kind: Kind;
  readonly path: readonly string[];
  readonly value: string;
}

type Step =
  | { readonly kind: 'do'; readonly slot: number; readonly guest: boolean; readonly operation: Operation }
  | { readonly kind: 'end'; readonly slot: number; readonly commit: boolean };

/** A node that is copied with everything below. `stamp` changes with every write to it or below. */
interface ModelNode {
  stamp: number;
  value: string;
  /** Whether the guest may do everything; if not, nothing. */
  open: boolean;
  children: Map<string, ModelNode>;
}

interface ModelTransaction {
  readonly original: ModelNode;
  readonly tree: ModelNode;
  readonly guest: boolean;
  readonly log: { readonly operation: Operation; readonly answer: string }[];
  readonly changes: { readonly kind: Kind; readonly path: readonly string[] }[];
  readTop: readonly string[] | undefined;
  changeTop: readonly string[] | undefined;
}

let stamps = 0;

/** oxenstored as simple as it can be said: every transaction works on a copy of everything. */
class Model {
  tree: ModelNode = { stamp: 0, value: '', open: true, children: new Map() };

  begin(guest: boolean): ModelTransaction {
    return {
      original: structuredClone(this.tree),
      tree: structuredClone(this.tree),
      guest,
      log: [],
      changes: [],
      readTop: undefined,
      changeTop: undefined,
    };
  }

  commit(transaction: ModelTransaction): string {
    const { original, tree, readTop, changeTop, changes } = transaction;
    if (changes.length === 0) return 'OK';
    if (original.stamp === this.tree.stamp) {
      this.tree = structuredClone(tree);
      return 'OK';
    }
    if (isUntouched(original, this.tree, readTop) && isUntouched(original, this.tree, changeTop)) {
      const node = changeTop === undefined ? undefined : find(tree, changeTop);
      if (node !== undefined) this.#install(changeTop!, structuredClone(node));
      return 'OK';
    }
    const again = this.begin(transaction.guest);
    for (const { operation, answer } of transaction.log) {
      if (apply(again, operation) !== answer) return 'EAGAIN';
    }
    this.tree = again.tree;
    return 'OK';
  }

  #install(path: readonly string[], node: ModelNode): void {
    if (path.length === 0) this.tree = node;
    else find(this.tree, path.slice(0, -1))!.children.set(path.at(-1)!, node);
    touch(this.tree, path.slice(0, -1));
  }
}

function find(tree: ModelNode, path: readonly string[]): ModelNode | undefined {
  let node: ModelNode | undefined = tree;
  for (const name of path) node = node?.children.get(name);
  return node;
}

function touch(tree: ModelNode, path: readonly string[]): void {
  stamps += 1;
  for (let depth = 0; depth <= path.length; depth++) find(tree, path.slice(0, depth))!.stamp = stamps;
}

function isUntouched(old: ModelNode, now: ModelNode, path: readonly string[] | undefined): boolean {
  if (path === undefined) return true;
  const [a, b] = [find(old, path), find(now, path)];
  const parents = [find(old, path.slice(0, -1)), find(now, path.slice(0, -1))];
  if (parents.includes(undefined)) return false;
  if (a === undefined && b === undefined) return true;
  if (a === undefined || a.stamp !== b?.stamp) return false;
  return path.every(
    (_, depth) => find(old, path.slice(0, depth))!.open === find(now, path.slice(0, depth))!.open,
  );
}

function top(path: readonly string[], other: readonly string[] | undefined): readonly string[] {
  if (other === undefined) return path;
  let count = 0;
  while (count < path.length && path[count] === other[count]) count++;
  return path.slice(0, count);
}

function apply(transaction: ModelTransaction, operation: Operation): string {
  const { tree, guest } = transaction;
  const { kind, path, value } = operation;
  const node = find(tree, path);
  const allows = (of: ModelNode): boolean => !guest || of.open;
  if (kind === 'read' || kind === 'directory') {
    if (node === undefined) return '!ENOENT';
    if (!allows(node)) return '!EACCES';
    transaction.readTop = top(path, transaction.readTop);
    return kind === 'read' ? `=${node.value}` : `=${[...node.children.keys()].sort().join(' ')}`;
  }
  if (kind === 'rm') {
    if (node === undefined) return find(tree, path.slice(0, -1)) === undefined ? '!ENOENT' : 'OK';
    if (!allows(node)) return '!EACCES';
    if (path.length === 0) node.children.clear();
    else find(tree, path.slice(0, -1))!.children.delete(path.at(-1)!);
    return changed(transaction, kind, path, path.slice(0, -1));
  }
  if (kind === 'chmod') {
    if (node === undefined) return '!ENOENT';
    if (guest && (path.length > 0 || !node.open)) return '!EACCES'; // nobody asks for the owner of /
    node.open = value !== '';
    return changed(transaction, kind, path, path);
  }
  const failure = makeParents(transaction, path, allows);
  if (failure !== undefined) return failure;
  const parent = find(tree, path.slice(0, -1))!;
  const target = find(tree, path);
  if (kind === 'mkdir' && path.length === 0) return changed(transaction, kind, path, path, false);
  if (!allows(target ?? parent)) return '!EACCES';
  if (target !== undefined && kind === 'mkdir') return 'OK';
  if (target === undefined) create(tree, path, kind === 'write' ? value : '');
  else if (target.value !== value) target.value = value;
  else return changed(transaction, kind, path, path, path.length > 0, path.slice(0, -1));
  return changed(transaction, kind, path, node === undefined ? path.slice(0, -1) : path);
}

function makeParents(
  transaction: ModelTransaction,
  path: readonly string[],
  allows: (node: ModelNode) => boolean,
): string | undefined {
  const { tree } = transaction;
  for (let depth = 1; depth < path.length; depth++) {
    const at = path.slice(0, depth);
    if (find(tree, at) !== undefined) continue;
    if (!allows(find(tree, at.slice(0, -1))!)) return '!EACCES';
    create(tree, at, '');
    touch(tree, at);
    transaction.changeTop = top(at.slice(0, -1), transaction.changeTop);
  }
  return undefined;
}

function create(tree: ModelNode, path: readonly string[], value: string): void {
  const parent = find(tree, path.slice(0, -1))!;
  parent.children.set(path.at(-1)!, { stamp: 0, value, open: parent.open, children: new Map() });
}

/** `touched` is the deepest node that is another version from now on. */
function changed(
  transaction: ModelTransaction,
  kind: Kind,
  path: readonly string[],
  changeTop: readonly string[],
  touches = true,
  touched: readonly string[] = path,
): string {
  if (touches)
    touch(transaction.tree, find(transaction.tree, touched) === undefined ? touched.slice(0, -1) : touched);
  transaction.changes.push({ kind, path });
  transaction.changeTop = top(changeTop, transaction.changeTop);
  return 'OK';
}

const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom<Kind[]>('write', 'write', 'mkdir', 'rm', 'read', 'directory', 'chmod'),
  path: fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 }),
  value: fc.constantFrom('', '1', '2'),
});

const slot = fc.nat({ max: 3 });

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('do' as const), slot, guest: fc.boolean(), operation }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('end' as const), slot, commit: fc.boolean() }) },
);

interface Open {
  readonly real: Transaction;
  readonly model: ModelTransaction;
  readonly connection: StoreConnection;
}

function perform(
  store: XenstoreStore,
  connection: StoreConnection,
  transaction: Transaction | undefined,
  { kind, path, value }: Operation,
): string {
  const context = { connection, transaction };
  const text = `/${path.join('/')}`;
  if (kind === 'read' || kind === 'directory') {
    // The requests, not `find`: that shows the whole node, so a transaction that used it depends on all of it.
    const request = kind === 'read' ? oxRead(path) : oxDirectory(path);
    const { answer } = store.oxenstored!.perform(context, request, false);
    if (answer.kind !== 'reply') return answer.kind === 'error' ? `!${answer.code}` : 'OK';
    return kind === 'read' ? `=${answer.payload}` : `=${answer.payload.split('\0').slice(0, -1).join(' ')}`;
  }
  const failure =
    kind === 'write'
      ? store.write(context, text, value)
      : kind === 'chmod'
        ? store.setPermissions(context, text, [value === '' ? 'n0' : 'b0'])
        : store[kind](context, text);
  return failure === undefined ? 'OK' : `!${failure}`;
}

function dumpModel(node: ModelNode): unknown {
  const children = [...node.children].sort(([a], [b]) => (a < b ? -1 : 1));
  return [node.value, node.open, children.map(([name, child]) => [name, dumpModel(child)])];
}

function dumpStore(store: XenstoreStore, connection: StoreConnection, path: string): unknown {
  const node = store.find({ connection, transaction: undefined }, path, 1);
  if (typeof node === 'string') throw new Error(node);
  const children = [...node.children.names()].map((name) => [
    name,
    dumpStore(store, connection, path === '/' ? `/${name}` : `${path}/${name}`),
  ]);
  return [node.value, node.permissions[0].mask !== 0, children];
}

describe('oxenstored against a model that copies the tree at every start', () => {
  test.prop([fc.array(step, { maxLength: 120, size: 'max' })], runs(400))(
    'answers, commits, conflicts and the tree that results are the same',
    (steps) => {
      const store = new XenstoreStore({ profile: { ...PROFILE_OXENSTORED, initialNodes: [] } });
      const host = store.openConnection({ domid: 0, privileged: true }, () => undefined);
      const guest = store.openConnection({ domid: 5, privileged: false }, () => undefined);
      store.setPermissions({ connection: host, transaction: undefined }, '/', ['b0']);
      const model = new Model();
      const open = new Map<number, Open>();
      for (const one of steps) {
        const current = open.get(one.slot);
        if (one.kind === 'end') {
          if (current === undefined) continue;
          open.delete(one.slot);
          const { connection, real } = current;
          const failure = store.endTransaction({ connection, transaction: real }, real, one.commit);
          if (one.commit) expect(failure ?? 'OK').toBe(model.commit(current.model));
          continue;
        }
        if (one.slot === 0) {
          const direct = { ...model.begin(one.guest), tree: model.tree };
          const answer = perform(store, one.guest ? guest : host, undefined, one.operation);
          expect(answer).toBe(apply(direct, one.operation));
          continue;
        }
        let used = current;
        if (used === undefined) {
          const connection = one.guest ? guest : host;
          const real = store.startTransaction(connection);
          if (typeof real === 'string') throw new Error(real);
          used = { real, connection, model: model.begin(one.guest) };
          open.set(one.slot, used);
        }
        const answer = perform(store, used.connection, used.real, one.operation);
        expect(answer).toBe(apply(used.model, one.operation));
        used.model.log.push({ operation: one.operation, answer });
      }
      expect(store.verify()).toEqual([]);
      expect(dumpStore(store, host, '/')).toEqual(dumpModel(model.tree));
    },
    LIMIT_MS,
  );
});

describe('SnapshotMap', () => {
  const change = fc.record({ key: fc.nat({ max: 300 }), value: fc.option(fc.nat(), { nil: undefined }) });

  test.prop([fc.array(change, { maxLength: 900, size: 'max' })], runs(60))(
    'is a sorted map whose earlier versions stay as they were',
    (changes) => {
      let map = SnapshotMap.empty<number>();
      const model = new Map<string, number>();
      const kept: { readonly map: SnapshotMap<number>; readonly entries: [string, number][] }[] = [];
      const sorted = (): [string, number][] => [...model].sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [index, { key: number, value }] of changes.entries()) {
        const key = String(number);
        if (value === undefined) model.delete(key);
        else model.set(key, value);
        const next = value === undefined ? map.delete(key) : map.set(key, value);
        const isSame = value === undefined ? !map.has(key) : map.get(key) === value;
        expect(next === map).toBe(isSame);
        map = next;
        if (index % 100 === 0) kept.push({ map, entries: sorted() });
      }
      kept.push({ map, entries: sorted() });
      for (const version of kept) {
        expect([...version.map.entries()]).toEqual(version.entries);
        expect([...version.map.keys()]).toEqual(version.entries.map(([key]) => key));
        expect(version.map.count).toBe(version.entries.length);
        for (const [key, value] of version.entries) expect(version.map.get(key)).toBe(value);
      }
    },
    LIMIT_MS,
  );
});
