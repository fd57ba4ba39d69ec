import { VIRTIO_MSI_NO_VECTOR, VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import type { DeviceModel } from '@virtlab/virtio';
import { featureWord, withFeatureWord } from './feature-words.ts';
import { type AccessWidth, allOnes } from './pci-function.ts';

/** What the registers hold beside the device model: selectors, vectors, and a queue's addresses until it is enabled. */
interface CommonConfigState {
  readonly model: DeviceModel;
  readonly vectorCount: number;
  readonly onStatus: (status: number) => void;
  deviceFeatureSelect: number;
  driverFeatureSelect: number;
  configVector: number;
  queueSelect: number;
  readonly queueSize: Uint16Array;
  readonly queueVector: Uint16Array;
  readonly descriptorArea: Uint32Array;
  readonly driverArea: Uint32Array;
  readonly deviceArea: Uint32Array;
  /** Writes of the driver that its rules forbid. */
  refusedWriteCount: number;
}

type CommonField = keyof typeof VIRTIO_PCI_COMMON_CFG.fields;

interface Register {
  readonly field: CommonField;
  /** Double words from the start of the field: 64-bit fields are two registers (§4.1.3.1). */
  readonly half?: 0 | 1;
  read(state: CommonConfigState): number;
  /** Absent in read-only registers. */
  write?(state: CommonConfigState, value: number): void;
}

const HALF_SIZE = 4;

/** The registers of §4.1.4.3, in its order. */
const registers: readonly Register[] = [
  {
    field: 'device_feature_select',
    read: (s) => s.deviceFeatureSelect,
    write: (s, value) => void (s.deviceFeatureSelect = value),
  },
  { field: 'device_feature', read: (s) => featureWord(s.model.deviceFeatures, s.deviceFeatureSelect) },
  {
    field: 'driver_feature_select',
    read: (s) => s.driverFeatureSelect,
    write: (s, value) => void (s.driverFeatureSelect = value),
  },
  {
    field: 'driver_feature',
    read: (s) => featureWord(s.model.driverFeatures, s.driverFeatureSelect),
    write: writeDriverFeature,
  },
  {
    field: 'config_msix_vector',
    read: (s) => s.configVector,
    write: (s, value) => void (s.configVector = usableVector(s, value)),
  },
  { field: 'num_queues', read: (s) => s.model.queueCount },
  { field: 'device_status', read: (s) => s.model.status, write: writeStatus },
  { field: 'config_generation', read: (s) => s.model.configGeneration & 0xff },
  { field: 'queue_select', read: (s) => s.queueSelect, write: (s, value) => void (s.queueSelect = value) },
  {
    field: 'queue_size',
    read: (s) => (isPresent(s) ? s.queueSize[s.queueSelect]! : 0),
    write: whileDisabled((s, value) => void (s.queueSize[s.queueSelect] = value)),
  },
  {
    field: 'queue_msix_vector',
    read: (s) => (isPresent(s) ? s.queueVector[s.queueSelect]! : VIRTIO_MSI_NO_VECTOR),
    write: (s, value) => {
      if (isPresent(s)) s.queueVector[s.queueSelect] = usableVector(s, value);
    },
  },
  {
    field: 'queue_enable',
    read: (s) => Number(isPresent(s) && s.model.isQueueEnabled(s.queueSelect)),
    write: enable,
  },
  { field: 'queue_notify_off', read: (s) => (isPresent(s) ? s.queueSelect : 0) },
  ...addressHalves('queue_desc', 'descriptorArea'),
  ...addressHalves('queue_driver', 'driverArea'),
  ...addressHalves('queue_device', 'deviceArea'),
  {
    field: 'queue_reset',
    read: (s) => Number(isPresent(s) && s.model.isQueueResetting(s.queueSelect)),
    write: resetQueue,
  },
  // NOTIF_CONFIG_DATA and ADMIN_VQ are not offered: their registers read 0 (§4.1.4.3.1).
  { field: 'queue_notif_config_data', read: () => 0 },
  { field: 'admin_queue_index', read: () => 0 },
  { field: 'admin_queue_num', read: () => 0 },
];

interface PlacedRegister {
  readonly width: number;
  readonly register: Register;
}

/** By byte offset; undefined inside and between registers. */
const registersByOffset: readonly (PlacedRegister | undefined)[] = place();

function place(): (PlacedRegister | undefined)[] {
  const byOffset: (PlacedRegister | undefined)[] = Array.from({ length: VIRTIO_PCI_COMMON_CFG.size });
  for (const register of registers) {
    const offset = VIRTIO_PCI_COMMON_CFG.offset[register.field] + (register.half ?? 0) * HALF_SIZE;
    const width = register.half === undefined ? VIRTIO_PCI_COMMON_CFG.width[register.field] : HALF_SIZE;
    byOffset[offset] = { width, register };
  }
  return byOffset;
}

/**
 * The common configuration structure (§4.1.4.3): selectors and per-queue registers in front of a `DeviceModel`.
 * An access must start at a register and have its width (§4.1.3.1); either half of a 64-bit one may be accessed alone.
 */
export class CommonConfig {
  readonly #state: CommonConfigState;

  /** `onStatus` is told what the driver wrote to the status; if that was 0, after the registers were reset. */
  constructor(model: DeviceModel, vectorCount: number, onStatus: (status: number) => void) {
    const { queueCount } = model;
    this.#state = {
      model,
      vectorCount,
      onStatus,
      deviceFeatureSelect: 0,
      driverFeatureSelect: 0,
      configVector: VIRTIO_MSI_NO_VECTOR,
      queueSelect: 0,
      queueSize: new Uint16Array(queueCount),
      queueVector: new Uint16Array(queueCount),
      descriptorArea: new Uint32Array(2 * queueCount),
      driverArea: new Uint32Array(2 * queueCount),
      deviceArea: new Uint32Array(2 * queueCount),
      refusedWriteCount: 0,
    };
    resetRegisters(this.#state);
  }

  read(offset: number, width: AccessWidth): number {
    const placed = registersByOffset[offset];
    return placed?.width === width ? placed.register.read(this.#state) : allOnes(width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const placed = registersByOffset[offset];
    if (placed?.width === width) placed.register.write?.(this.#state, value);
  }

  /** VIRTIO_MSI_NO_VECTOR when configuration changes have none. */
  get configVector(): number {
    return this.#state.configVector;
  }

  /** VIRTIO_MSI_NO_VECTOR when the queue has none. */
  queueVector(queue: number): number {
    return this.#state.queueVector[queue] ?? VIRTIO_MSI_NO_VECTOR;
  }

  get refusedWriteCount(): number {
    return this.#state.refusedWriteCount;
  }

  /** The registers as after a reset of the device, which the driver asked for elsewhere. */
  reset(): void {
    resetRegisters(this.#state);
  }

  /** The reset of a queue that took its time is complete. */
  queueResetDone(queue: number): void {
    resetQueueRegisters(this.#state, queue);
  }

  /** Through the registers of the legacy interface, which shares these. */
  setVector(queue: number | 'config', vector: number): number {
    const state = this.#state;
    const usable = usableVector(state, vector);
    if (queue === 'config') state.configVector = usable;
    else if (queue < state.queueVector.length) state.queueVector[queue] = usable;
    return usable;
  }
}

/** §4.1.4.3.1: after a reset no vector is mapped, and queue_size is the largest the device takes. */
function resetRegisters(state: CommonConfigState): void {
  state.deviceFeatureSelect = 0;
  state.driverFeatureSelect = 0;
  state.configVector = VIRTIO_MSI_NO_VECTOR;
  state.queueSelect = 0;
  for (let queue = 0; queue < state.queueSize.length; queue++) resetQueueRegisters(state, queue);
}

/** §2.6.1.1: a queue that was reset alone is as it was after a reset of the device. */
function resetQueueRegisters(state: CommonConfigState, queue: number): void {
  state.queueSize[queue] = state.model.queueSizeMax(queue);
  state.queueVector[queue] = VIRTIO_MSI_NO_VECTOR;
  for (const area of [state.descriptorArea, state.driverArea, state.deviceArea]) {
    area.fill(0, 2 * queue, 2 * queue + 2);
  }
}

/** §4.1.4.3.1: queue_size is 0 for a queue that does not exist; its other registers then do nothing. */
function isPresent(state: CommonConfigState): boolean {
  return state.queueSelect < state.model.queueCount && state.model.queueSizeMax(state.queueSelect) !== 0;
}

/** §4.1.5.1.2: a vector that cannot be mapped reads back as NO_VECTOR. */
function usableVector(state: CommonConfigState, vector: number): number {
  return vector < state.vectorCount ? vector : VIRTIO_MSI_NO_VECTOR;
}

function writeDriverFeature({ model, driverFeatureSelect }: CommonConfigState, value: number): void {
  model.writeDriverFeatures(withFeatureWord(model.driverFeatures, driverFeatureSelect, value));
}

function writeStatus(state: CommonConfigState, value: number): void {
  state.model.writeStatus(value);
  if (value === 0) resetRegisters(state);
  state.onStatus(value);
}

/** A queue's registers must not change while it is enabled (§4.1.4.3.2); such writes are refused. */
function whileDisabled(
  write: (state: CommonConfigState, value: number) => void,
): (state: CommonConfigState, value: number) => void {
  return (state, value) => {
    if (!isPresent(state)) return;
    if (state.model.isQueueEnabled(state.queueSelect)) state.refusedWriteCount++;
    else write(state, value);
  };
}

/** A 64-bit field as two registers: drivers may write the halves apart and in any order. */
function addressHalves(field: CommonField, area: 'descriptorArea' | 'driverArea' | 'deviceArea'): Register[] {
  return ([0, 1] as const).map((half) => ({
    field,
    half,
    read: (s) => (isPresent(s) ? s[area][2 * s.queueSelect + half]! : 0),
    write: whileDisabled((s, value) => void (s[area][2 * s.queueSelect + half] = value)),
  }));
}

/** §4.1.4.3.2: only 1 may be written; anything else and the device needs reset, as with QEMU. */
function enable(state: CommonConfigState, value: number): void {
  if (!isPresent(state)) return;
  const { model, queueSelect: queue } = state;
  if (value !== 1) {
    state.refusedWriteCount++;
    model.refuse({ section: '4.1.4.3.2', message: `queue_enable of queue ${queue} written with ${value}` });
    return;
  }
  // §2.6.1.2: a queue whose reset is not over cannot be enabled.
  const isResetting = model.isQueueResetting(queue);
  if (!isResetting && model.isQueueEnabled(queue)) return;
  const accepted =
    !isResetting &&
    model.enableQueue(queue, {
      size: state.queueSize[queue]!,
      descriptorArea: address(state.descriptorArea, queue),
      driverArea: address(state.driverArea, queue),
      deviceArea: address(state.deviceArea, queue),
    });
  if (!accepted) state.refusedWriteCount++;
}

/** §2.6.1: 1 resets the queue, at once or until `queueResetDone`; nothing else may be written. */
function resetQueue(state: CommonConfigState, value: number): void {
  if (!isPresent(state)) return;
  const { model, queueSelect: queue } = state;
  if (value !== 1 || !model.resetQueue(queue)) state.refusedWriteCount++;
  else if (!model.isQueueResetting(queue)) resetQueueRegisters(state, queue);
}

function address(area: Uint32Array, queue: number): bigint {
  return (BigInt(area[2 * queue + 1]!) << 32n) | BigInt(area[2 * queue]!);
}
