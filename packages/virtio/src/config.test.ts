import { describe, expect, it } from 'vitest';
import { readConfig } from './config.ts';

/** A configuration of equal bytes that changes between the bytes of a read, `changeCount` times. */
class MovingConfig {
  changeCount: number;
  #value = 1;
  #generation = 0;
  #isDirty = false;

  constructor(changeCount: number) {
    this.changeCount = changeCount;
  }

  async readConfigGeneration(): Promise<number> {
    if (this.#isDirty) this.#generation += 1;
    this.#isDirty = false;
    return this.#generation;
  }

  async readConfigBytes(_offset: number, out: Uint8Array): Promise<void> {
    for (let at = 0; at < out.length; at += 1) {
      out[at] = this.#value;
      if (at !== 1 || this.changeCount === 0) continue;
      this.changeCount -= 1;
      this.#value += 1;
      this.#isDirty = true;
    }
  }
}

describe('readConfig', () => {
  it('§2.5.1 driver MUST read again until the generation holds still', async () => {
    expect([...(await readConfig(new MovingConfig(0), 0, 4))]).toEqual([1, 1, 1, 1]);
    expect([...(await readConfig(new MovingConfig(1), 0, 4))]).toEqual([2, 2, 2, 2]);
    expect([...(await readConfig(new MovingConfig(5), 0, 4))]).toEqual([6, 6, 6, 6]);
  });

  it('gives up with EIO on a configuration that never does', async () => {
    await expect(readConfig(new MovingConfig(Infinity), 0, 4)).rejects.toMatchObject({ code: 'EIO' });
  });
});
