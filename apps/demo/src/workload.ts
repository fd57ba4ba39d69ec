import { type DomId, domId } from '@virtlab/abi/brands';
import type { DiskImage } from './disk-image.ts';
import { sha256OfImage } from './disk-image.ts';
import type { Lab } from './lab.ts';
import type { DomUArguments, RandomAnswer, TransportName } from './messages.ts';
import { DemoError, type DemoOptions } from './options.ts';
import type { Reporter } from './reporter.ts';

const DOM0_IP = '10.0.0.1';
const BLOCK_SIZE = 4096;
const DEPTHS = [1, 4, 32] as const;
const PING_COUNT = 50;
const PING_SIZE = 56;
const UDP_SIZE = 1400;

export interface BlockFigure {
  readonly depth: number;
  readonly kind: 'read' | 'write';
  readonly iops: number;
  readonly mbPerSecond: number;
  /** Microseconds. */
  readonly latencyMedian: number;
  readonly latencyP99: number;
  readonly kicksPerOperation: number;
  readonly callsPerOperation: number;
  readonly operations: number;
  readonly verified: number;
}

export interface NetFigure {
  readonly between: string;
  readonly rttMedian: number;
  readonly datagramsPerSecond: number;
  readonly mbPerSecond: number;
  readonly lost: number;
  readonly kicksPerDatagram: number;
  readonly callsPerDatagram: number;
}

/** What one transport did. */
export interface TransportResult {
  readonly transport: TransportName;
  readonly bootMs: readonly {
    readonly domain: number;
    readonly buildMs: number;
    readonly startMs: number;
    readonly connectMs: number;
  }[];
  readonly trapCount: number;
  readonly filesystem:
    | { readonly files: number; readonly bytes: number; readonly writeMs: number; readonly readMs: number }
    | undefined;
  readonly diskSha256: string | undefined;
  readonly block: readonly BlockFigure[];
  readonly net: readonly NetFigure[];
}

interface RunningGuest {
  readonly domain: DomId;
  readonly ip: string;
  readonly name: string;
}

/** Boots the guests of one transport, lets them work, and shuts them down. */
export async function runTransport(
  lab: Lab,
  transport: TransportName,
  image: DiskImage,
  options: DemoOptions,
  report: Reporter,
): Promise<TransportResult> {
  report.heading(`virtio_${transport}`);
  const guests: RunningGuest[] = [];
  const bootMs: TransportResult['bootMs'][number][] = [];
  let trapCount = 0;
  for (let index = 1; index <= options.domains; index += 1) {
    const config = guestArguments(transport, index);
    const disk = config.hasDisk ? { path: image.path, readOnly: !image.isOwn } : undefined;
    const start = performance.now();
    const created = await lab.askDom0('create', { guest: config, disk });
    const domain = domId(created.domain);
    const connectMs = await lab.untilUp(domain);
    const startMs = performance.now() - start - created.buildMs;
    bootMs.push({ domain, buildMs: created.buildMs, startMs, connectMs });
    guests.push({ domain, ip: config.ip, name: `domU${index}` });
    const answer = await lab.ask(domain, 'devices', {});
    trapCount += answer.trapCount;
    report.guest(domain, bootMs.at(-1)!, answer);
  }
  report.tree(await lab.askDom0('tree', {}));
  const first = guests[0]!;
  const work = new Workload(lab, first, image, options, report);
  report.line(`entropy      ${(await lab.ask(first.domain, 'rng', { size: 16 })).hex}`);
  const filesystem = await work.filesystem();
  const block = await work.block();
  const diskSha256 = await work.checksum();
  const net = await work.net(guests);
  await stopGuests(lab, guests, report);
  return { transport, bootMs, trapCount, filesystem, diskSha256, block, net };
}

/** Orderly: every guest closes its drivers and powers off; whoever does not is a failure. */
async function stopGuests(lab: Lab, guests: readonly RunningGuest[], report: Reporter): Promise<void> {
  lab.expectEnd(guests.map(({ domain }) => domain));
  const { destroyed, leaks } = await lab.askDom0('stopGuests', {});
  await Promise.all(guests.map(({ domain }) => lab.untilEnded(domain)));
  if (destroyed.length > 0)
    throw new DemoError('failed', `Domains ${destroyed.join(', ')} did not power off`);
  if (leaks.length > 0) throw new DemoError('failed', `After the guests: ${leaks.join('; ')}`);
  report.line(`shut down    ${guests.length} guests, nothing left of them`);
}

function guestArguments(transport: TransportName, index: number): DomUArguments {
  return {
    transport,
    index,
    mac: `02:00:00:00:00:${(index + 1).toString(16).padStart(2, '0')}`,
    ip: `10.0.0.${index + 1}`,
    hasDisk: index === 1,
  };
}

class Workload {
  readonly #lab: Lab;
  readonly #guest: RunningGuest;
  readonly #image: DiskImage;
  readonly #options: DemoOptions;
  readonly #report: Reporter;

  constructor(lab: Lab, guest: RunningGuest, image: DiskImage, options: DemoOptions, report: Reporter) {
    this.#lab = lab;
    this.#guest = guest;
    this.#image = image;
    this.#options = options;
    this.#report = report;
  }

  async filesystem(): Promise<TransportResult['filesystem']> {
    const { domain } = this.#guest;
    if (!this.#image.isOwn) {
      const { files } = await this.#lab.ask(domain, 'listing', {});
      this.#report.line(
        files === undefined
          ? 'filesystem   no FAT on this image; its sectors are read as they are'
          : `filesystem   ${files.map(({ name, size }) => `${name} (${size})`).join(', ') || 'empty'}`,
      );
      return undefined;
    }
    const answer = await this.#lab.ask(domain, 'filesystem', { fileCount: 8, fileSize: 300_000 });
    const result = {
      files: answer.files.length,
      bytes: answer.bytes,
      writeMs: answer.writeMs,
      readMs: answer.readMs,
    };
    this.#report.line(
      `filesystem   FAT made in ${ms(answer.formatMs)}; ${result.files} files, ${mb(result.bytes)} written in ${ms(
        answer.writeMs,
      )}, flushed, remounted, read in ${ms(answer.readMs)}, checksums right`,
    );
    return result;
  }

  async block(): Promise<BlockFigure[]> {
    const figures: BlockFigure[] = [];
    const kinds = this.#image.isOwn ? (['write', 'read'] as const) : (['read'] as const);
    for (const depth of DEPTHS) {
      for (const kind of kinds) {
        const label = `random ${BLOCK_SIZE / 1024} KiB ${kind}s, depth ${depth}`;
        const answer = await this.#report.withProgress(label, (onProgress) => {
          this.#lab.onProgress = onProgress;
          return this.#lab.ask(this.#guest.domain, 'random', {
            depth,
            durationMs: this.#options.seconds * 1000,
            writePercent: kind === 'write' ? 100 : 0,
            blockSize: BLOCK_SIZE,
            seed: 0x5eed + depth,
          });
        });
        figures.push(blockFigure(depth, kind, answer));
        this.#report.block(label, figures.at(-1)!);
      }
    }
    return figures;
  }

  /** The whole disk as the guest reads it is what the file holds. */
  async checksum(): Promise<string> {
    const seen = await this.#lab.ask(this.#guest.domain, 'checksum', {});
    const held = await sha256OfImage(this.#image.path);
    if (seen.sha256 !== held) {
      throw new DemoError(
        'failed',
        `The guest reads sha256 ${seen.sha256}, ${this.#image.path} holds ${held}`,
      );
    }
    const rate = mb(seen.bytes / (seen.durationMs / 1000));
    this.#report.line(
      `whole disk   ${mb(seen.bytes)} read at ${rate}/s, sha256 as the file's: ${held.slice(0, 16)}…`,
    );
    return held;
  }

  async net(guests: readonly RunningGuest[]): Promise<NetFigure[]> {
    const [first, second] = guests;
    const figures = [
      await this.#path(`${first!.name} to dom0`, first!, DOM0_IP, () => this.#lab.askDom0('udpCount', {})),
    ];
    if (second !== undefined) {
      const count = (): ReturnType<Lab['ask']> => this.#lab.ask(second.domain, 'udpCount', {});
      figures.push(await this.#path(`${first!.name} to ${second.name}`, first!, second.ip, count as never));
    }
    return figures;
  }

  async #path(
    between: string,
    from: RunningGuest,
    ip: string,
    received: () => Promise<{ datagrams: number; bytes: number }>,
  ): Promise<NetFigure> {
    const ping = await this.#lab.ask(from.domain, 'ping', { ip, count: PING_COUNT, size: PING_SIZE });
    if (ping.received !== ping.sent) {
      throw new DemoError('failed', `${between}: ${ping.received} of ${ping.sent} echo replies from ${ip}`);
    }
    await received();
    const durationMs = this.#options.seconds * 1000;
    const sent = await this.#lab.ask(from.domain, 'blast', { ip, size: UDP_SIZE, durationMs });
    const count = await received();
    if (count.datagrams === 0)
      throw new DemoError('failed', `${between}: none of ${sent.sent} datagrams arrived`);
    const figure: NetFigure = {
      between,
      rttMedian: ping.rttMedian,
      datagramsPerSecond: count.datagrams / (sent.durationMs / 1000),
      mbPerSecond: count.bytes / 1e6 / (sent.durationMs / 1000),
      lost: sent.sent - count.datagrams,
      kicksPerDatagram: sent.kicks / sent.sent,
      callsPerDatagram: sent.calls / sent.sent,
    };
    this.#report.net(figure, ping);
    return figure;
  }
}

function blockFigure(depth: number, kind: 'read' | 'write', answer: RandomAnswer): BlockFigure {
  const seconds = answer.durationMs / 1000;
  return {
    depth,
    kind,
    iops: answer.operations / seconds,
    mbPerSecond: (answer.operations * BLOCK_SIZE) / 1e6 / seconds,
    latencyMedian: answer.latencyMedian,
    latencyP99: answer.latencyP99,
    kicksPerOperation: answer.kicks / answer.operations,
    callsPerOperation: answer.calls / answer.operations,
    operations: answer.operations,
    verified: answer.verified,
  };
}

function ms(value: number): string {
  return `${value.toFixed(0)} ms`;
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
