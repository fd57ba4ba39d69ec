/** Memory whose user may be killed at any store. */
import type { MemoryRegion } from '@virtlab/guest-memory';

/** Where a process ended. Nothing catches it but the test. */
export class Killed extends Error {}

type Words = Uint8Array | Uint16Array | Uint32Array | Int32Array;

/**
 * Views that count the stores made through them, and throw `Killed` at one of them. `Atomics` are taken over while it lives,
 * since they want arrays and not what stands for one here.
 */
export class MortalMemory implements Disposable {
  readonly region: MemoryRegion;
  storeCount = 0;
  readonly #real: MemoryRegion;
  readonly #targets = new WeakMap<object, Words>();
  readonly #load = Atomics.load;
  readonly #store = Atomics.store;
  /** Stores to be made, and whether the last of them is the end, or the next. */
  #allowedCount = Infinity;
  #isLastTheEnd = false;

  constructor(real: MemoryRegion) {
    this.#real = real;
    this.region = {
      size: real.size,
      u8: this.#watched(real.u8),
      u16: this.#watched(real.u16),
      u32: this.#watched(real.u32),
      i32: this.#watched(real.i32),
    };
    const of = (array: object): Words => this.#targets.get(array) ?? (array as Words);
    Atomics.load = ((array: object, at: number) => this.#load(of(array) as Int32Array, at)) as never;
    Atomics.store = ((array: object, at: number, value: never) => {
      const target = of(array);
      if (target.buffer !== real.u8.buffer) return this.#store(target as Int32Array, at, value);
      return this.#counted(() => this.#store(target as Int32Array, at, value));
    }) as never;
  }

  /** From here on so many stores are made; behind the last (`after`), or at the next one, the process ends. */
  killAt(count: number, when: 'after' | 'before'): void {
    this.storeCount = 0;
    this.#allowedCount = count;
    this.#isLastTheEnd = when === 'after';
  }
  /** Another process has it. */
  revive(): void {
    this.killAt(Infinity, 'before');
  }

  save(): Uint8Array {
    return this.#real.u8.slice();
  }
  restore(bytes: Uint8Array): void {
    this.#real.u8.set(bytes);
  }

  [Symbol.dispose](): void {
    Atomics.load = this.#load;
    Atomics.store = this.#store;
  }

  #counted(store: () => void): void {
    if (this.storeCount >= this.#allowedCount) throw new Killed();
    store();
    this.storeCount += 1;
    if (this.#isLastTheEnd && this.storeCount === this.#allowedCount) throw new Killed();
  }

  #watched<Kind extends Words>(target: Kind): Kind {
    const store = (at: string | number, value: unknown): void =>
      this.#counted(() => Reflect.set(target, at, value));
    const fill = (value: number, from: number, to: number): void => {
      for (let at = from; at < to; at += 1) store(at, value);
    };
    const watched = new Proxy(target, {
      get: (_, name) => (name === 'fill' ? fill : Reflect.get(target, name, target)),
      set: (_, name, value) => {
        store(name as string, value);
        return true;
      },
    });
    this.#targets.set(watched, target);
    return watched;
  }
}
