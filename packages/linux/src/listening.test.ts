import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { isListening } from './listening.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtlab-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('isListening', () => {
  it('is false where there is nothing, or no socket', async () => {
    const path = join(folder, 'file');
    expect(await isListening(path)).toBe(false);
    writeFileSync(path, '');
    expect(await isListening(path)).toBe(false);
  });

  it('is true while a server takes connections, which sees a client that leaves', async () => {
    const path = join(folder, 'socket');
    const server = createServer().listen(path);
    await once(server, 'listening');
    const connected = once(server, 'connection');
    expect(await isListening(path)).toBe(true);
    await connected;
    server.close();
    await once(server, 'close');
    expect(await isListening(path)).toBe(false);
  });
});
