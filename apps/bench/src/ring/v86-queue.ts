/**
 * The virtqueue of v86, from its published build, without running its machine. The classes are private to the build and none of
 * this is in its typings, hence the pinned version and this one file: everything that knows v86 from the inside is here.
 */
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import type { V86Module } from './v86-build.ts';
import type { RingLayout } from './ring-layout.ts';

/** The device half of v86: `VirtQueue` of src/virtio.js. */
export interface V86Queue {
  has_request(): boolean;
  pop_request(): V86Chain;
  push_reply(chain: V86Chain): void;
  flush_replies(): void;
}

export interface V86Chain {
  readonly length_readable: number;
  readonly length_writable: number;
  length_written: number;
}

export interface V86Ring {
  readonly queue: V86Queue;
  /** Guest memory as the driver sees it. */
  readonly memory: MemoryRegion;
  /** Interrupts raised since the ring was made. */
  irqCount(): number;
}

export interface V86Queues extends AsyncDisposable {
  /** A queue whose guest memory is a plain typed array: the build's best case. */
  onTypedArrays(layout: RingLayout, isIndirect: boolean): V86Ring;
  /** A queue on the guest memory of the emulator, which is WebAssembly's. The layout must begin above `guestBase`. */
  onGuestMemory(layout: RingLayout, isIndirect: boolean): V86Ring;
  /** The first byte of guest memory that is free for rings. */
  readonly guestBase: number;
}

/** The part of the emulator's processor that a queue reaches memory by. */
interface V86Cpu {
  read16(address: number): number;
  read32s(address: number): number;
  write16(address: number, value: number): void;
  write32(address: number, value: number): void;
  read_blob(address: number, size: number): Uint8Array;
  write_blob(bytes: Uint8Array, address: number): void;
}

interface V86Machine extends V86Cpu {
  readonly mem8: { readonly byteOffset: number };
  readonly wasm_memory: { readonly buffer: ArrayBuffer };
  readonly devices: { readonly virtio_net: { readonly virtio: { readonly queues: readonly QueueObject[] } } };
}

interface QueueObject extends V86Queue {
  readonly constructor: new (cpu: V86Cpu, virtio: object, options: object) => QueueObject;
  desc_addr: number;
  avail_addr: number;
  used_addr: number;
  enable(): void;
}

const GUEST_MEMORY_SIZE = 16 << 20;
/** Above what a PC reserves. */
const GUEST_BASE = 1 << 20;

/** Of one build; see `importV86`. */
export async function loadV86Queues({ V86 }: V86Module): Promise<V86Queues> {
  const emulator = new V86({
    wasm_path: new URL('./v86.wasm', import.meta.resolve('v86')).pathname,
    memory_size: GUEST_MEMORY_SIZE,
    net_device: { type: 'virtio' },
    autostart: false,
    disable_speaker: true,
  });
  await new Promise<void>((resolve) => emulator.add_listener('emulator-loaded', () => resolve()));
  const machine = (emulator as unknown as { readonly v86: { readonly cpu: V86Machine } }).v86.cpu;
  const VirtQueue = machine.devices.virtio_net.virtio.queues[0]!.constructor;

  const make = (
    cpu: V86Cpu,
    memory: MemoryRegion,
    { size, descriptors, available, used }: RingLayout,
    isIndirect: boolean,
  ): V86Ring => {
    let irqCount = 0;
    const virtio = {
      is_feature_negotiated: (feature: number): boolean =>
        feature === VIRTIO_RING_F_EVENT_IDX || (isIndirect && feature === VIRTIO_RING_F_INDIRECT_DESC),
      raise_irq: (): void => {
        irqCount += 1;
      },
    };
    const queue = new VirtQueue(cpu, virtio, { size_supported: size, notify_offset: 0 });
    queue.desc_addr = descriptors;
    queue.avail_addr = available;
    queue.used_addr = used;
    queue.enable();
    return { queue, memory, irqCount: () => irqCount };
  };

  return {
    guestBase: GUEST_BASE,
    onTypedArrays: (layout, isIndirect) => {
      const memory = memoryRegion(new ArrayBuffer(layout.memorySize));
      return make(typedArrayCpu(memory), memory, layout, isIndirect);
    },
    onGuestMemory: (layout, isIndirect) => {
      const { byteOffset } = machine.mem8;
      const memory = memoryRegion(machine.wasm_memory.buffer, byteOffset, GUEST_MEMORY_SIZE);
      memory.u8.fill(0, layout.descriptors, layout.memorySize); // of an earlier ring
      return make(machine, memory, layout, isIndirect);
    },
    [Symbol.asyncDispose]: () => emulator.destroy(),
  };
}

function typedArrayCpu({ u8, u16, u32, i32 }: MemoryRegion): V86Cpu {
  return {
    read16: (address) => u16[address >>> 1]!,
    read32s: (address) => i32[address >>> 2]!,
    write16: (address, value) => {
      u16[address >>> 1] = value;
    },
    write32: (address, value) => {
      u32[address >>> 2] = value;
    },
    read_blob: (address, size) => u8.subarray(address, address + size),
    write_blob: (bytes, address) => u8.set(bytes, address),
  };
}
