// The program of a domU: drivers over whichever transport it was given, and work for them to do.
import { createHash, randomBytes } from 'node:crypto';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import {
  type DeviceLinks,
  type Domain,
  connectDevices,
  connectOwnXenstore,
  onShutdownRequest,
} from '@virtlab/domain';
import { type DriverLink, describeFeatures } from '@virtlab/virtio';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { type RngDriver, createRngDriver } from '@virtlab/virtio-rng';
import type { Xenstore } from '@virtlab/xenstore';
import { FatVolume } from './fat-volume.ts';
import {
  type BlastAnswer,
  type ChecksumAnswer,
  type ConsoleRecord,
  type DevicesAnswer,
  type DomUArguments,
  type DomURequests,
  type FilesystemAnswer,
  type RandomAnswer,
  type RandomRequest,
  type RequestTable,
  serve,
} from './messages.ts';
import { RandomIo } from './random-io.ts';
import { NetworkStation, formatMac, parseIp } from './station.ts';
import { createSyncDisk } from './sync-disk.ts';

const DEVICE_NAMES: ReadonlyMap<number, string> = new Map([
  [VIRTIO_ID_RNG, 'virtio-rng'],
  [VIRTIO_ID_BLOCK, 'virtio-blk'],
  [VIRTIO_ID_NET, 'virtio-net'],
]);
/** Bytes read at once when the whole disk is read. */
const CHECKSUM_CHUNK_SIZE = 256 * 1024;
const CHECKSUM_CHUNKS_IN_FLIGHT = 4;
const UDP_PORT = 4791;

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const start = domain.aio.now();
  const store = connectOwnXenstore(domain);
  const config = args as DomUArguments;
  const links = await connectDevices(domain, store, config.transport);
  const guest = new DomU(domain, store, links, config);
  await guest.start(start);
}

class DomU {
  readonly #domain: Domain;
  readonly #store: Xenstore;
  readonly #links: DeviceLinks;
  readonly #config: DomUArguments;
  #rng!: RngDriver;
  #blk: BlkDriver | undefined;
  #net!: NetDriver;
  #station!: NetworkStation;
  #connectMs = 0;
  #generations: Uint32Array = new Uint32Array(0);
  #isStopping = false;

  constructor(domain: Domain, store: Xenstore, links: DeviceLinks, config: DomUArguments) {
    this.#domain = domain;
    this.#store = store;
    this.#links = links;
    this.#config = config;
  }

  /** The same lines whatever the transport: a link goes in, a driver comes out. */
  async start(startedMs: number): Promise<void> {
    const { aio } = this.#domain;
    this.#rng = await createRngDriver(this.#link(VIRTIO_ID_RNG), { aio });
    this.#net = await createNetDriver(this.#link(VIRTIO_ID_NET), { aio });
    if (this.#config.hasDisk) this.#blk = await createBlkDriver(this.#link(VIRTIO_ID_BLOCK), { aio });
    this.#station = new NetworkStation(aio, this.#net, { mac: this.#net.mac, ip: parseIp(this.#config.ip) });
    this.#connectMs = aio.now() - startedMs;
    await onShutdownRequest(this.#store, this.#domain.id, () => void this.#powerOff());
    this.#domain.connection.onRequest(serve(this.#requests()));
    this.#console({ kind: 'up', sinceStartMs: this.#connectMs });
  }

  #requests(): RequestTable<DomURequests> {
    return {
      devices: () => this.#devices(),
      rng: async ({ size }) => {
        const bytes = new Uint8Array(size);
        await this.#rng.read(bytes);
        return { hex: Buffer.from(bytes).toString('hex') };
      },
      filesystem: ({ fileCount, fileSize }) => this.#filesystem(fileCount, fileSize),
      listing: async () => {
        using volume = await FatVolume.open(
          createSyncDisk(this.#domain, this.#disk, this.#disk.capacitySectors),
        );
        return { files: volume.mount() ? volume.list('/') : undefined };
      },
      checksum: () => this.#checksum(),
      random: (request) => this.#random(request),
      ping: ({ ip, count, size }) => this.#station.ping(ip, count, size),
      blast: ({ ip, size, durationMs }) => this.#blast(ip, size, durationMs),
      udpCount: () => this.#station.takeUdpCount(),
      stop: async () => ({ leaks: await this.#stop() }),
    };
  }

  async #devices(): Promise<DevicesAnswer> {
    const details = new Map([
      [VIRTIO_ID_RNG, ''],
      [
        VIRTIO_ID_NET,
        `${formatMac(this.#net.mac)}, mtu ${this.#net.mtu}, link ${this.#net.linkUp ? 'up' : 'down'}`,
      ],
    ]);
    const features = new Map([
      [VIRTIO_ID_RNG, this.#rng.session.features],
      [VIRTIO_ID_NET, this.#net.features],
    ]);
    if (this.#blk !== undefined) {
      const { capacitySectors, readOnly } = this.#blk;
      const size = `${(capacitySectors * VIRTIO_BLK_SECTOR_SIZE) / 2 ** 20} MiB`;
      details.set(VIRTIO_ID_BLOCK, `${await this.#blk.getId()}, ${size}${readOnly ? ', read-only' : ''}`);
      features.set(VIRTIO_ID_BLOCK, this.#blk.features);
    }
    return {
      connectMs: this.#connectMs,
      trapCount: this.#links.trapCount(),
      devices: [...features].map(([type, bits]) => ({
        name: DEVICE_NAMES.get(type) ?? String(type),
        features: describeFeatures(bits, type),
        detail: details.get(type) ?? '',
      })),
    };
  }

  /** The filesystem has the first half of the disk; random I/O has the second. */
  async #filesystem(fileCount: number, fileSize: number): Promise<FilesystemAnswer> {
    const { aio } = this.#domain;
    const disk = createSyncDisk(this.#domain, this.#disk, this.#disk.capacitySectors >>> 1);
    const start = aio.now();
    const written: { name: string; sha256: string; bytes: number }[] = [];
    let [formatted, wrote] = [0, 0];
    {
      using volume = await FatVolume.open(disk);
      volume.format();
      if (!volume.mount()) throw new Error('The filesystem that was just made is not there');
      formatted = aio.now();
      volume.mkdir('/DATA');
      for (let index = 0; index < fileCount; index += 1) {
        const bytes = randomBytes(fileSize + index * 777);
        const name = `/DATA/FILE${index}.BIN`;
        volume.writeFile(name, bytes);
        written.push({ name, sha256: sha256(bytes), bytes: bytes.length });
      }
      const text = `Written by domain ${this.#domain.id} over virtio_${this.#config.transport}\n`;
      volume.writeFile('/README.TXT', new TextEncoder().encode(text));
      wrote = aio.now();
    }
    disk.flushSync();
    const reread = aio.now();
    using volume = await FatVolume.open(disk);
    if (!volume.mount()) throw new Error('The filesystem is gone after a remount');
    for (const { name, sha256: expected } of written) {
      const found = sha256(volume.readFile(name));
      if (found !== expected) throw new Error(`${name} has checksum ${found}, written was ${expected}`);
    }
    return {
      formatMs: formatted - start,
      writeMs: wrote - formatted,
      readMs: aio.now() - reread,
      bytes: written.reduce((sum, each) => sum + each.bytes, 0),
      files: written.map(({ name, sha256: sum }) => ({ name, sha256: sum })),
    };
  }

  async #checksum(): Promise<ChecksumAnswer> {
    const start = this.#domain.aio.now();
    const size = this.#disk.capacitySectors * VIRTIO_BLK_SECTOR_SIZE;
    const hash = createHash('sha256');
    const chunks = Array.from(
      { length: CHECKSUM_CHUNKS_IN_FLIGHT },
      () => new Uint8Array(CHECKSUM_CHUNK_SIZE),
    );
    for (let at = 0; at < size; at += CHECKSUM_CHUNK_SIZE * chunks.length) {
      const parts = chunks
        .map((chunk, index) => ({ chunk, from: at + index * CHECKSUM_CHUNK_SIZE }))
        .filter(({ from }) => from < size)
        .map(({ chunk, from }) => ({
          from,
          bytes: chunk.subarray(0, Math.min(CHECKSUM_CHUNK_SIZE, size - from)),
        }));
      await Promise.all(
        parts.map(({ from, bytes }) => this.#disk.read(from / VIRTIO_BLK_SECTOR_SIZE, bytes)),
      );
      for (const { bytes } of parts) hash.update(bytes);
    }
    return { bytes: size, sha256: hash.digest('hex'), durationMs: this.#domain.aio.now() - start };
  }

  async #random(request: RandomRequest): Promise<RandomAnswer> {
    const { capacitySectors, readOnly } = this.#disk;
    const firstSector = readOnly ? 0 : capacitySectors >>> 1;
    const sectorCount = capacitySectors - firstSector;
    const blockCount = Math.ceil((sectorCount * VIRTIO_BLK_SECTOR_SIZE) / request.blockSize);
    if (this.#generations.length !== blockCount) this.#generations = new Uint32Array(blockCount);
    const area = { firstSector, sectorCount, generations: this.#generations };
    const io = new RandomIo(this.#domain.aio, this.#disk, request, area, (fraction) =>
      this.#console({ kind: 'progress', fraction }),
    );
    const answer = await io.run();
    await this.#disk.flush();
    return answer;
  }

  async #blast(ip: string, size: number, durationMs: number): Promise<BlastAnswer> {
    const before = this.#net.statistics;
    const start = this.#domain.aio.now();
    const sent = await this.#station.blast(ip, UDP_PORT, size, durationMs);
    const after = this.#net.statistics;
    const elapsed = this.#domain.aio.now() - start;
    return {
      sent,
      durationMs: elapsed,
      kicks: after.kicks - before.kicks,
      calls: after.calls - before.calls,
    };
  }

  /** Closes drivers and links, and says what is still held then. */
  async #stop(): Promise<readonly string[]> {
    await this.#blk?.close();
    await this.#net.close();
    await this.#rng.stop();
    await this.#links[Symbol.asyncDispose]();
    return this.#domain.leaks();
  }

  async #powerOff(): Promise<void> {
    if (this.#isStopping) return;
    this.#isStopping = true;
    const leaks = await this.#stop();
    if (leaks.length > 0) this.#console({ kind: 'warning', message: `left behind: ${leaks.join('; ')}` });
    this.#store.close();
    await this.#domain.shutdown('poweroff');
  }

  get #disk(): BlkDriver {
    if (this.#blk === undefined) throw new Error(`Domain ${this.#domain.id} has no disk`);
    return this.#blk;
  }

  #link(type: number): DriverLink {
    const link = this.#links.byType.get(type);
    if (link === undefined) throw new Error(`Domain ${this.#domain.id} has no ${DEVICE_NAMES.get(type)}`);
    return link;
  }

  #console(record: ConsoleRecord): void {
    this.#domain.console(record);
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
