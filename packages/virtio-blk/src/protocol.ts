/** What driver and device of VIRTIO §5.2 have in common: the request header, ranges, and configuration space. */
import type { FeatureBits } from '@virtlab/abi/brands';
import type { RecordOf } from '@virtlab/abi/layout';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_DISCARD_WRITE_ZEROES,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_SECURE_ERASE,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  VIRTIO_BLK_SECTOR_SIZE,
} from '@virtlab/abi/virtio-blk';

export type BlkConfig = RecordOf<typeof VIRTIO_BLK_CONFIG>;

/** Configuration space of VIRTIO 1.2: all fields before the zoned ones, which came with 1.3. */
export const BLK_CONFIG_SIZE: number = VIRTIO_BLK_CONFIG.offset.zone_sectors;
/** Configuration space of a zoned disk. */
export const ZONED_CONFIG_SIZE: number = VIRTIO_BLK_CONFIG.size;

/** A byte position must be an exact integer in a double, so no sector at or beyond this one exists for us. */
export const SECTOR_COUNT_MAX: number = 2 ** 53 / VIRTIO_BLK_SECTOR_SIZE;

const WORD = 2 ** 32;
const SECTOR_HIGH_MAX = SECTOR_COUNT_MAX / WORD;

/** A 64-bit sector number from two unsigned words; `Infinity` if it is beyond what any device of ours can hold. */
export function sectorFromWords(low: number, high: number): number {
  return high < SECTOR_HIGH_MAX ? high * WORD + low : Number.POSITIVE_INFINITY;
}

export function sectorLow(sector: number): number {
  return sector >>> 0;
}

export function sectorHigh(sector: number): number {
  return Math.floor(sector / WORD);
}

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const TYPE_WORD = VIRTIO_BLK_OUTHDR.offset.type / 4;
const RESERVED_WORD = VIRTIO_BLK_OUTHDR.offset.reserved / 4;
const SECTOR_WORD = VIRTIO_BLK_OUTHDR.offset.sector / 4;

/** Stores a request header (§5.2.6, struct virtio_blk_req) at 32-bit word `at`. */
export function writeHeader(words: Uint32Array, at: number, type: number, sector: number): void {
  words[at + TYPE_WORD] = type;
  words[at + RESERVED_WORD] = 0;
  words[at + SECTOR_WORD] = sector;
  words[at + SECTOR_WORD + 1] = sector < WORD ? 0 : sectorHigh(sector);
}

/** Stores one range of discard or write zeroes (§5.2.6, struct virtio_blk_discard_write_zeroes) at word `at`. */
export function writeRange(
  words: Uint32Array,
  at: number,
  sector: number,
  sectorCount: number,
  flags: number,
): void {
  words[at + VIRTIO_BLK_DISCARD_WRITE_ZEROES.offset.sector / 4] = sectorLow(sector);
  words[at + VIRTIO_BLK_DISCARD_WRITE_ZEROES.offset.sector / 4 + 1] = sectorHigh(sector);
  words[at + VIRTIO_BLK_DISCARD_WRITE_ZEROES.offset.num_sectors / 4] = sectorCount;
  words[at + VIRTIO_BLK_DISCARD_WRITE_ZEROES.offset.flags / 4] = flags;
}

const NO_CONFIG: BlkConfig = VIRTIO_BLK_CONFIG.read(new DataView(new ArrayBuffer(VIRTIO_BLK_CONFIG.size)), 0);

/** Configuration space as bytes; fields that are not given are zero, as §5.2.4 wants for features not offered. */
export function encodeConfig(fields: Partial<BlkConfig>, size: number = BLK_CONFIG_SIZE): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_CONFIG.size);
  VIRTIO_BLK_CONFIG.write(new DataView(bytes.buffer), 0, { ...NO_CONFIG, ...fields });
  return bytes.slice(0, size);
}

/** The fields in a prefix of configuration space; those beyond it are zero. */
export function decodeConfig(prefix: Uint8Array): BlkConfig {
  const bytes = new Uint8Array(VIRTIO_BLK_CONFIG.size);
  bytes.set(prefix.subarray(0, bytes.length));
  return VIRTIO_BLK_CONFIG.read(new DataView(bytes.buffer), 0);
}

/** Bytes of configuration space that hold what these features make valid; an old device may have no more (§2.5). */
export function configSizeFor(features: FeatureBits): number {
  const { offset, width } = VIRTIO_BLK_CONFIG;
  const last: readonly (readonly [number, keyof typeof offset])[] = [
    [VIRTIO_BLK_F_SIZE_MAX, 'size_max'],
    [VIRTIO_BLK_F_SEG_MAX, 'seg_max'],
    [VIRTIO_BLK_F_GEOMETRY, 'sectors'],
    [VIRTIO_BLK_F_BLK_SIZE, 'blk_size'],
    [VIRTIO_BLK_F_TOPOLOGY, 'opt_io_size'],
    [VIRTIO_BLK_F_CONFIG_WCE, 'writeback'],
    [VIRTIO_BLK_F_MQ, 'num_queues'],
    [VIRTIO_BLK_F_DISCARD, 'discard_sector_alignment'],
    [VIRTIO_BLK_F_WRITE_ZEROES, 'write_zeroes_may_unmap'],
    [VIRTIO_BLK_F_SECURE_ERASE, 'secure_erase_sector_alignment'],
    [VIRTIO_BLK_F_ZONED, 'model'],
  ];
  return last.reduce(
    (size, [feature, field]) => (hasFeature(features, feature) ? offset[field] + width[field] : size),
    width.capacity,
  );
}

const STATUS_NAMES: ReadonlyMap<number, string> = new Map([
  [VIRTIO_BLK_S_OK, 'VIRTIO_BLK_S_OK'],
  [VIRTIO_BLK_S_IOERR, 'VIRTIO_BLK_S_IOERR'],
  [VIRTIO_BLK_S_UNSUPP, 'VIRTIO_BLK_S_UNSUPP'],
  [VIRTIO_BLK_S_ZONE_INVALID_CMD, 'VIRTIO_BLK_S_ZONE_INVALID_CMD'],
  [VIRTIO_BLK_S_ZONE_UNALIGNED_WP, 'VIRTIO_BLK_S_ZONE_UNALIGNED_WP'],
  [VIRTIO_BLK_S_ZONE_OPEN_RESOURCE, 'VIRTIO_BLK_S_ZONE_OPEN_RESOURCE'],
  [VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE, 'VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE'],
]);

/** A status byte for people. */
export function statusName(status: number): string {
  return STATUS_NAMES.get(status) ?? `status ${status}`;
}
