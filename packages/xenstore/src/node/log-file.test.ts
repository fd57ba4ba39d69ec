import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LogFile } from './log-file.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstore-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** A disk that takes a write only when it is told to. */
class SlowDisk {
  readonly written: string[] = [];
  #release: (() => void) | undefined;
  isFull = false;

  readonly open = (): Promise<{ appendFile: (text: string) => Promise<void>; close: () => Promise<void> }> =>
    Promise.resolve({
      appendFile: async (text: string) => {
        await new Promise<void>((resolve) => {
          this.#release = resolve;
        });
        if (this.isFull) throw new Error('ENOSPC');
        this.written.push(text);
      },
      close: () => Promise.resolve(),
    });

  async complete(): Promise<void> {
    while (this.#release === undefined) await new Promise((turn) => setImmediate(turn));
    this.#release();
    this.#release = undefined;
    await new Promise((turn) => setImmediate(turn));
  }
}

describe('LogFile', () => {
  it('appends lines in order, for the owner alone', async () => {
    const path = join(directory, 'log');
    for (const text of ['one', 'two']) {
      const log = await LogFile.open(path);
      log.write(text);
      log.write(`${text} more`);
      await log.close();
    }
    expect(readFileSync(path, 'utf8')).toBe('one\none more\ntwo\ntwo more\n');
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('reopened after a rename it goes on in a new file; not a line is lost', async () => {
    const path = join(directory, 'log');
    const log = await LogFile.open(path);
    log.write('before');
    renameSync(path, `${path}.1`);
    const reopening = log.reopen();
    log.write('meanwhile');
    await reopening;
    log.write('after');
    await log.close();
    const all = readFileSync(`${path}.1`, 'utf8') + readFileSync(path, 'utf8');
    expect(all).toBe('before\nmeanwhile\nafter\n');
    expect(readFileSync(path, 'utf8')).toContain('after');
  });

  it('a file that cannot be opened rejects, and the old one goes on', async () => {
    const path = join(directory, 'log');
    await expect(LogFile.open(join(directory, 'none', 'log'))).rejects.toMatchObject({ code: 'ENOENT' });
    const log = await LogFile.open(path);
    await expect(log.reopen(join(directory, 'none', 'log'))).rejects.toMatchObject({ code: 'ENOENT' });
    log.write('still here');
    await log.close();
    expect(readFileSync(path, 'utf8')).toBe('still here\n');
  });

  it('a slow disk costs a bounded memory; dropped lines are counted and said', async () => {
    const disk = new SlowDisk();
    const log = await LogFile.open('log', { pendingSize: 100, open: disk.open });
    for (let i = 0; i < 1000; i++) log.write(`line ${i}`);
    expect(log.droppedCount).toBeGreaterThan(980);
    const dropped = log.droppedCount;
    await disk.complete();
    log.write('again');
    await disk.complete();
    expect(disk.written.join('')).toMatch(new RegExp(`line 9\\n[^]*\\n${dropped} lines dropped\\nagain\\n$`));
    await log.close();
  });

  it('a full disk drops lines and nothing else', async () => {
    const disk = new SlowDisk();
    const log = await LogFile.open('log', { open: disk.open });
    disk.isFull = true;
    log.write('lost');
    await disk.complete();
    disk.isFull = false;
    log.write('kept');
    await disk.complete();
    expect(disk.written).toEqual(['1 lines dropped\nkept\n']);
    expect(log.droppedCount).toBe(1);
    await log.close();
  });
});
