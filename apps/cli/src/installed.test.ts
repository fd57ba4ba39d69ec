import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DemoResult } from '@virtlab/demo';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** It asks the npm registry for what virtlab depends on, so it runs only where foreign peers are required anyway. */
const IS_ASKED_FOR = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

function run(cwd: string, command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} exited with ${status}: ${stdout}${stderr}`);
  return stdout;
}

/** Workspaces that are published. */
function publicPackages(): string[] {
  return ['packages', 'apps'].flatMap((folder) =>
    readdirSync(join(ROOT, folder))
      .map((name) => join(folder, name))
      .filter(
        (path) =>
          !(JSON.parse(readFileSync(join(ROOT, path, 'package.json'), 'utf8')) as { private?: boolean })
            .private,
      ),
  );
}

describe.skipIf(!IS_ASKED_FOR)('virtlab as an installed package', { timeout: 180_000 }, () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-install-'));
    run(ROOT, 'tsc', '--build', 'apps/cli');
    const workspaces = publicPackages().flatMap((path) => ['--workspace', path]);
    run(ROOT, 'npm', 'pack', ...workspaces, '--pack-destination', folder);
    writeFileSync(join(folder, 'package.json'), '{ "name": "somebody", "private": true }');
    const tarballs = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
    run(
      folder,
      'npm',
      'install',
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      ...tarballs.map((name) => `./${name}`),
    );
  }, 180_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it('npx virtlab --version', () => {
    expect(run(folder, 'npx', '--no-install', 'virtlab', '--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('npx virtlab demo runs domains from the built files', () => {
    const args = ['demo', '--seconds', '0.05', '--domains', '1', '--json'];
    const result = JSON.parse(run(folder, 'npx', '--no-install', 'virtlab', ...args)) as DemoResult;
    expect(result.transports).toHaveLength(2);
  });

  it('virtlab xenstored and virtlab xs work from the built files', async () => {
    const program = join(folder, 'node_modules/.bin/virtlab');
    const socketPath = join(folder, 'socket');
    const daemon = spawn(program, ['xenstored', '--json', '--socket', socketPath], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
    expect(JSON.parse(line.toString())).toEqual({ socketPath, profile: 'c-4.17', pid: daemon.pid });
    const xs = (...args: string[]): string => run(folder, program, 'xs', ...args, '--socket', socketPath);
    xs('write', '/a/b', 'x\\ty');
    expect(xs('ls', '/a')).toBe('b = "x\\ty"\n');
    expect(xs('top', '--interval', '0.05', '--count', '1')).toContain('xenstored c-4.17');
    daemon.kill('SIGTERM');
    expect(await once(daemon, 'close')).toEqual([143, null]);
  });

  it('virtlab-vhost-user-rng serves from the built files, its device in a thread', async () => {
    const socket = join(folder, 'rng');
    const program = join(folder, 'node_modules/.bin/virtlab-vhost-user-rng');
    const daemon = spawn(program, ['--json', '--socket-path', socket], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
    expect(JSON.parse(line.toString())).toEqual({ event: 'listening', sockets: [socket], pid: daemon.pid });
    daemon.kill('SIGTERM');
    expect(await once(daemon, 'close')).toEqual([143, null]);
  });

  it('virtlab vhost-user-device serves a module that lies elsewhere, with packages of its own installation', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'virtlab-elsewhere-'));
    const [module, socket] = [join(elsewhere, 'disk.ts'), join(elsewhere, 'disk')];
    writeFileSync(
      module,
      "import { createNullBackend } from '@virtlab/virtio-blk';\n" +
        'export const backend: object = createNullBackend({ capacitySectors: 8 });\n',
    );
    const program = join(folder, 'node_modules/.bin/virtlab');
    const daemon = spawn(program, ['vhost-user-device', '--json', '--socket-path', socket, module], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
    expect(JSON.parse(line.toString())).toMatchObject({ event: 'listening', sockets: [socket] });
    daemon.kill('SIGTERM');
    expect(await once(daemon, 'close')).toEqual([143, null]);
    rmSync(elsewhere, { recursive: true });
  });

  it('virtlab-vhost-user-blk serves from the built files, its queues on two threads', async () => {
    const program = join(folder, 'node_modules/.bin/virtlab-vhost-user-blk');
    const disk = ['--backend', 'memory', '--size', '1M', '--num-queues', '2', '--threads', '2'];
    const daemon = spawn(program, ['--json', '--socket-path', join(folder, 'blk'), ...disk], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [line] = (await once(daemon.stdout, 'data')) as [Buffer];
    expect(JSON.parse(line.toString())).toMatchObject({ event: 'listening', threads: 2 });
    daemon.kill('SIGTERM');
    expect(await once(daemon, 'close')).toEqual([143, null]);
  });
});

it('npx virtlab works from the checkout without a build', () => {
  expect(run(ROOT, 'npx', '--no-install', 'virtlab', '--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
});
