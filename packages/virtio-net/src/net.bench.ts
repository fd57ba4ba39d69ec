/**
 * What of a processor's time a frame costs from one driver over the switch to another, all in one thread over the memory transport, by feature. Run
 * with `node --conditions=@virtlab/source packages/virtio-net/src/net.bench.ts`.
 */
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import { type AioContext, createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost, RING_FEATURES } from '@virtlab/virtio';
import { type MemoryTransport, createMemoryTransport } from '@virtlab/virtio/memory';
import type { NetDeviceOptions } from './device-options.ts';
import type { NetDriver } from './driver-contract.ts';
import { createNetDevice } from './device.ts';
import { NET_DRIVER_FEATURES, NET_DRIVER_OFFLOADS, type NetDriverOptions } from './driver-options.ts';
import { createNetDriver } from './driver.ts';
import type { FrameOffload } from './frame-offload.ts';
import { type LearningSwitch, createLearningSwitch } from './learning-switch.ts';
import { buildPacket } from './testing/internet-packets.ts';

const FRAMES = 50_000;
const LARGE_FRAMES = 5000;
const RUNS = 9;
/** Until the engine has optimized it all. */
const WARM_UP_RUNS = 15;
const BATCH = 32;
const LARGE_BATCH = 8;

interface Row {
  readonly name: string;
  readonly size: number;
  readonly from?: Partial<NetDriverOptions>;
  readonly to?: Partial<NetDriverOptions>;
  readonly device?: Partial<NetDeviceOptions>;
}

const OFFLOADS = { wanted: NET_DRIVER_FEATURES | NET_DRIVER_OFFLOADS };
const PACKED = { ringFeatures: RING_FEATURES | featureBits(VIRTIO_F_RING_PACKED) };
const PACKED_IN_ORDER = { ringFeatures: PACKED.ringFeatures | featureBits(VIRTIO_F_IN_ORDER) };
const NO_MERGING = { wanted: NET_DRIVER_FEATURES & ~featureBits(VIRTIO_NET_F_MRG_RXBUF) };

const ROWS: readonly Row[] = [
  ...[64, 1500].flatMap((size): Row[] => [
    { name: 'mergeable', size },
    { name: 'without mergeable', size, from: NO_MERGING, to: NO_MERGING },
    { name: 'offloads agreed on', size, from: OFFLOADS, to: OFFLOADS },
    {
      name: '4 pairs, steered by flow',
      size,
      from: { queuePairs: 4 },
      to: { queuePairs: 4 },
      device: { queuePairs: 4 },
    },
    { name: 'tx=bh', size, device: { tx: 'bh' } },
    { name: 'tx=timer', size, device: { tx: 'timer' } },
    { name: 'packed', size, from: PACKED, to: PACKED },
    { name: 'packed, in order', size, from: PACKED_IN_ORDER, to: PACKED_IN_ORDER },
  ]),
  { name: 'TSO to TSO', size: 65_000, from: OFFLOADS, to: OFFLOADS },
  { name: 'TSO, segmented in software', size: 65_000, from: OFFLOADS },
];

async function plug(
  network: LearningSwitch,
  aio: AioContext,
  last: number,
  device: Partial<NetDeviceOptions> = {},
  options: Partial<NetDriverOptions> = {},
): Promise<{ driver: NetDriver; machine: MemoryTransport }> {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, last);
  const card = createNetDevice({ mac, port: network.addPort(`${last}`), queueSize: 1024, ...device });
  const host = new DeviceHost({ device: card, aio });
  const memory = memoryRegion(new ArrayBuffer(64 << 20));
  const machine = createMemoryTransport({ host, memory, deviceAio: aio, driverAio: aio });
  return { machine, driver: await createNetDriver(machine.link, { aio, queueSize: 1024, ...options }) };
}

/** Sends in batches, each when the bytes of the one before have arrived. */
async function stream(
  from: NetDriver,
  to: NetDriver,
  frame: Uint8Array,
  offload?: FrameOffload,
): Promise<void> {
  const [count, batch] = offload === undefined ? [FRAMES, BATCH] : [LARGE_FRAMES, LARGE_BATCH];
  const payload = frame.length - (offload?.hdrLen ?? 0);
  const done = Promise.withResolvers<void>();
  let sent = 0;
  let received = 0;
  const sendBatch = (): void => {
    for (let index = 0; index < batch; index += 1) from.send(frame, offload);
    sent += batch;
    from.kick();
  };
  to.onFrame((bytes) => {
    received += bytes.length - (offload?.hdrLen ?? 0);
    if (received < sent * payload) return;
    if (sent >= count) done.resolve();
    else sendBatch();
  });
  sendBatch();
  await done.promise;
}

async function measure({ name, size, from, to, device }: Row): Promise<void> {
  using aio = createAioContext();
  const network = createLearningSwitch();
  const a = await plug(network, aio, 1, device, from);
  const b = await plug(network, aio, 2, device, to);
  b.driver.send(Uint8Array.of(...a.driver.mac, ...b.driver.mac, 8, 0));
  b.driver.kick();
  const isLarge = size > 1500;
  const headers = 54;
  const packet = buildPacket({ version: 4, protocol: 6, payloadSize: size - headers });
  packet.bytes.set([...b.driver.mac, ...a.driver.mac]);
  const offload = { flags: 1, gsoType: 1, hdrLen: headers, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
  const times: number[] = [];
  for (let run = 0; run < WARM_UP_RUNS + RUNS; run += 1) {
    const start = process.cpuUsage();
    await stream(a.driver, b.driver, packet.bytes, isLarge ? offload : undefined);
    const { user, system } = process.cpuUsage(start);
    times.push(((user + system) * 1000) / (isLarge ? LARGE_FRAMES : FRAMES));
  }
  const median = times.slice(WARM_UP_RUNS).toSorted((x, y) => x - y)[(RUNS - 1) / 2]!;
  const { txFrames, kicks } = a.driver.statistics;
  const { rxFrames, calls } = b.driver.statistics;
  console.log(
    `${`${size} bytes, ${name}`.padEnd(42)} ${median.toFixed(0).padStart(7)} ns a frame, ` +
      `${((size * 8) / median).toFixed(1).padStart(5)} Gbit/s, ${(kicks / txFrames).toFixed(3)} kicks, ${(calls / rxFrames).toFixed(3)} calls`,
  );
  for (const { driver, machine } of [a, b]) {
    await driver.close();
    await machine.close();
  }
}

const only = process.argv[2];
for (const row of ROWS)
  if (only === undefined || `${row.size} ${row.name}`.includes(only)) await measure(row);
