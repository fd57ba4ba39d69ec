/**
 * A disk without storage: sector n is the multiplication table of n, computed when it is read. Attach it to a virtual machine with
 * `virtlab vhost-user-device --socket-path disk.sock computed-disk.ts`, and read it there: `dd if=/dev/vda skip=7 count=1`.
 */
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { type BlockBackend, type BlkDevice, createBlkDevice } from '@virtlab/virtio-blk';

export const CAPACITY_SECTORS = 16_384;
const LINE_SIZE = 16;
/** QEMU asks for a queue for each of the guest's processors, and refuses a disk of fewer. */
const QUEUE_COUNT = 64;
const LINES_PER_SECTOR: number = VIRTIO_BLK_SECTOR_SIZE / LINE_SIZE;

/** `    7* 6=    42` and a line feed. */
function tableLine(sector: number, factor: number): Buffer {
  return Buffer.from(
    `${`${sector}`.padStart(5)}*${`${factor}`.padStart(2)}=${`${sector * factor}`.padStart(6)}\n`,
  );
}

const backend: BlockBackend = {
  capacitySectors: CAPACITY_SECTORS,
  blockSize: VIRTIO_BLK_SECTOR_SIZE,
  readOnly: true,
  onComplete: () => {}, // every operation ends at once
  read(region, offset, size, position) {
    for (let done = 0; done < size;) {
      const line = Math.floor((position + done) / LINE_SIZE);
      const text = tableLine(Math.floor(line / LINES_PER_SECTOR), (line % LINES_PER_SECTOR) + 1);
      const rest = text.subarray((position + done) % LINE_SIZE).subarray(0, size - done); // a piece may begin anywhere
      region.u8.set(rest, offset + done);
      done += rest.length;
    }
    return VIRTIO_BLK_S_OK;
  },
  write: () => VIRTIO_BLK_S_IOERR,
  flush: () => VIRTIO_BLK_S_OK,
  discard: () => VIRTIO_BLK_S_IOERR,
  writeZeroes: () => VIRTIO_BLK_S_IOERR,
  submit: () => {},
  close: async () => {},
};

export function createDevice(): BlkDevice {
  return createBlkDevice({ backend, serial: 'multiplication', segMax: 126, queueCount: QUEUE_COUNT });
}
