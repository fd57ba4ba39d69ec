import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { byteString } from './byte-string.ts';
import { type Transaction, XenstoreStore } from './store.ts';

/** One step against the store and the model: directly (slot 0) or in one of two transactions. */
type ModelOperation =
  | { readonly kind: 'write'; readonly slot: number; readonly path: string; readonly value: string }
  | { readonly kind: 'mkdir' | 'rm' | 'read' | 'directory'; readonly slot: number; readonly path: string };

type ModelStep = ModelOperation | { readonly kind: 'end'; readonly slot: number; readonly commit: boolean };

const slot: fc.Arbitrary<number> = fc.nat({ max: 2 });
const path: fc.Arbitrary<string> = fc
  .array(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 })
  .map((names) => `/${names.join('/')}`);

const modelOperation: fc.Arbitrary<ModelStep> = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), slot, path, value: fc.constantFrom('', '1', '2') }),
  fc.record({ kind: fc.constantFrom('mkdir', 'rm', 'read', 'directory'), slot, path }),
  fc.record({ kind: fc.constant('end' as const), slot, commit: fc.boolean() }),
);

interface ModelNode {
  value: string;
  readonly children: Map<string, ModelNode>;
}

const emptyNode = (): ModelNode => ({ value: '', children: new Map() });

/** What the store must do for domain 0, without permissions, transactions or speed. */
class ModelTree {
  readonly #root = emptyNode();

  constructor(initial: readonly string[]) {
    for (const at of initial) this.apply({ kind: 'mkdir', slot: 0, path: at });
  }

  apply(operation: ModelOperation): string {
    const names = operation.path === '/' ? [] : operation.path.slice(1).split('/');
    const node = this.#find(names);
    switch (operation.kind) {
      case 'write':
        this.#create(names).value = operation.value;
        return 'OK';
      case 'mkdir':
        this.#create(names);
        return 'OK';
      case 'rm':
        return this.#remove(names);
      case 'read':
        return node === undefined ? 'ENOENT' : `=${node.value}`;
      case 'directory':
        return node === undefined ? 'ENOENT' : `=${[...node.children.keys()].join(' ')}`;
    }
  }

  dump(): [string, string][] {
    const found: [string, string][] = [];
    const visit = (at: string, node: ModelNode): void => {
      found.push([at, node.value]);
      for (const [name, child] of node.children) visit(at === '/' ? `/${name}` : `${at}/${name}`, child);
    };
    visit('/', this.#root);
    return found;
  }

  #find(names: readonly string[]): ModelNode | undefined {
    let node: ModelNode | undefined = this.#root;
    for (const name of names) node = node?.children.get(name);
    return node;
  }

  #create(names: readonly string[]): ModelNode {
    let node = this.#root;
    for (const name of names) {
      const next = node.children.get(name) ?? emptyNode();
      node.children.set(name, next);
      node = next;
    }
    return node;
  }

  #remove(names: readonly string[]): string {
    const parent = this.#find(names.slice(0, -1));
    if (names.length === 0) return 'EINVAL';
    if (parent === undefined) return 'ENOENT';
    parent.children.delete(names.at(-1)!);
    return 'OK';
  }
}

interface OpenTransaction {
  readonly transaction: Transaction;
  readonly log: { readonly operation: ModelOperation; readonly answer: string }[];
  /** Whether anything was written by others since it began. */
  isDisturbed: boolean;
}

describe('the store against a model', () => {
  test.prop([fc.array(modelOperation, { maxLength: 150, size: 'max' })], { numRuns: 400 })(
    'a committed transaction is as if executed at its end, an undisturbed one commits, reads see the last write',
    (operations) => {
      const store = new XenstoreStore();
      const connection = store.openConnection({ domid: 0, privileged: true }, () => undefined);
      const model = new ModelTree(['/tool/xenstored']);
      const open = new Map<number, OpenTransaction>();
      const disturb = (): void => {
        for (const other of open.values()) other.isDisturbed = true;
      };
      for (const operation of operations) {
        const current = operation.slot === 0 ? undefined : open.get(operation.slot);
        if (operation.kind === 'end') {
          if (current === undefined) continue;
          open.delete(operation.slot);
          const { transaction, log, isDisturbed } = current;
          const failure = store.endTransaction({ connection, transaction }, transaction, operation.commit);
          if (!operation.commit) continue;
          if (!isDisturbed) expect(failure).toBeUndefined();
          if (failure !== undefined) {
            expect(failure).toBe('EAGAIN');
            continue;
          }
          for (const { operation: past, answer } of log) expect(model.apply(past)).toBe(answer);
          disturb();
          continue;
        }
        let context = current;
        if (operation.slot !== 0 && context === undefined) {
          const transaction = store.startTransaction(connection);
          if (typeof transaction === 'string') throw new Error(transaction);
          context = { transaction, log: [], isDisturbed: false };
          open.set(operation.slot, context);
        }
        const answer = applyToStore(store, { connection, transaction: context?.transaction }, operation);
        if (context === undefined) {
          expect(answer).toBe(model.apply(operation));
          if (operation.kind !== 'read' && operation.kind !== 'directory') disturb();
        } else {
          context.log.push({ operation, answer });
        }
      }
      expect(store.verify()).toEqual([]);
      expect(dump(store, connection)).toEqual(model.dump());
    },
  );
});

function applyToStore(
  store: XenstoreStore,
  context: Parameters<XenstoreStore['find']>[0],
  operation: ModelOperation,
): string {
  if (operation.kind === 'write') return store.write(context, operation.path, operation.value) ?? 'OK';
  if (operation.kind === 'mkdir') return store.mkdir(context, operation.path) ?? 'OK';
  if (operation.kind === 'rm') return store.rm(context, operation.path) ?? 'OK';
  const node = store.find(context, operation.path, 1);
  if (typeof node === 'string') return node;
  return operation.kind === 'read' ? `=${node.value}` : `=${[...node.children.names()].join(' ')}`;
}

function dump(
  store: XenstoreStore,
  connection: Parameters<XenstoreStore['closeConnection']>[0],
): [string, string][] {
  const found: [string, string][] = [];
  const visit = (at: string): void => {
    const node = store.find({ connection, transaction: undefined }, at, 1);
    if (typeof node === 'string') throw new Error(`${at}: ${node}`);
    found.push([at, byteString(new TextEncoder().encode(node.value))]);
    for (const child of node.children.names()) visit(at === '/' ? `/${child}` : `${at}/${child}`);
  };
  visit('/');
  return found;
}
