import { PC_HIGH_MEMORY_BASE } from '@virtlab/abi/pc-chipset';
import type { AioContext } from '@virtlab/aio';
import {
  IdentityDmaMapper,
  type MemoryRegion,
  PAGE_SIZE,
  PageAllocator,
  memoryRegion,
} from '@virtlab/guest-memory';
import { type SharedMapping, closeFd, mapShared, memfdCreate, socketPair } from '@virtlab/linux';
import { type BarAssignment, type MemoryWindow, assignBars, pciBdf } from '@virtlab/virtio-pci';
import { haltingRom } from './halting-rom.ts';
import { QemuProcess, fdPath, memoryFile } from './qemu-process.ts';
import { QmpConnection, type QmpEvent } from './qmp-connection.ts';
import { QtestConnection } from './qtest-connection.ts';
import { QtestPciAccess } from './qtest-pci-access.ts';
import { RamInterrupts } from './ram-interrupts.ts';

/** What passes a descriptor of ours on, and answers its number over there. */
export type PassFd = (fd: number) => number;

export interface QemuMachineOptions {
  /** The driver's loop. */
  readonly aio: AioContext;
  /** Devices and what is behind them, as on a command line; `pass` gives QEMU descriptors, which stay the caller's. */
  readonly devices: (pass: PassFd) => readonly string[];
  /** `q35` is what `INTx` works on, `pc` has hotplug. Default `q35`. */
  readonly machine?: 'q35' | 'pc';
  /** Bytes. Default 32 MiB. */
  readonly memorySize?: number;
  /** Vectors that the driver may have. Default 1024; 0 leaves it INTx. */
  readonly vectorCountMax?: number;
  /** For each answer. Default 10,000. */
  readonly timeoutMs?: number;
}

/** Where firmware would put BARs: below the I/O APIC, above any memory that we give. */
const BAR_WINDOW: MemoryWindow = { base: 0xe000_0000, size: 0x1000_0000 };
const PORT_WINDOW: MemoryWindow = { base: 0xc000, size: 0x1000 };
const MEMORY_SIZE = 32 << 20;

/** Descriptors that QEMU has for us; those passed on follow. */
const QMP_FD = 3;
const MEMORY_FD = 4;
const ROM_FD = 5;

/**
 * A QEMU whose processor has halted, with us in its place: its devices are reached through `access` and see our `dma`'s
 * memory, which is its RAM. Nothing of it lies in a file system. It dies with the thread that started it.
 *
 * Throws nothing for a QEMU that does not start: the first access finds that out, see `messages`.
 */
export class QemuMachine implements AsyncDisposable {
  readonly access: QtestPciAccess;
  readonly qtest: QtestConnection;
  readonly interrupts: RamInterrupts;
  readonly dma: IdentityDmaMapper;
  readonly memory: MemoryRegion;
  readonly events: QmpEvent[] = [];
  readonly #process: QemuProcess;
  readonly #qmp: QmpConnection;
  readonly #mapping: SharedMapping;
  readonly #messagePage: number;
  #disposing: Promise<readonly string[]> | undefined;

  constructor(options: QemuMachineOptions) {
    const { memorySize = MEMORY_SIZE, timeoutMs = 10_000 } = options;
    const memoryFd = memfdCreate('qemu-ram', memorySize);
    const romFd = memoryFile('halting-rom', haltingRom());
    const [qtestFd, qtestTheirs] = socketPair();
    const [qmpFd, qmpTheirs] = socketPair();
    const fds = [qtestTheirs, qtestTheirs, qmpTheirs, memoryFd, romFd];
    // Descriptor 2 is for messages, so those that follow the first two are one further on.
    const devices = options.devices((fd) => fds.push(fd));
    this.#process = new QemuProcess(
      [...baseArguments(options.machine ?? 'q35', memorySize), ...devices],
      fds,
    );
    this.#mapping = mapShared(memoryFd, memorySize);
    for (const fd of [memoryFd, romFd, qtestTheirs, qmpTheirs]) closeFd(fd);
    this.memory = memoryRegion(this.#mapping.buffer);
    const pages = new PageAllocator(PC_HIGH_MEMORY_BASE, memorySize - PC_HIGH_MEMORY_BASE);
    this.dma = new IdentityDmaMapper(this.memory, { pages });
    this.#messagePage = pages.allocate(PAGE_SIZE);
    this.interrupts = new RamInterrupts(options.aio, this.memory, this.#messagePage, options.vectorCountMax);
    this.qtest = new QtestConnection({
      fd: qtestFd,
      timeoutMs,
      onIrq: (line, level) => this.interrupts.setInput(line, level),
      explain: () => `: ${this.messages}`,
    });
    this.access = new QtestPciAccess(this.qtest);
    this.#qmp = new QmpConnection(qmpFd, timeoutMs, (event) => {
      this.events.push(event);
      if (event.event === 'DEVICE_DELETED') this.access.noticeRemovals();
    });
    this.qtest.listen();
    this.qtest.post('irq_intercept_in ioapic');
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** What QEMU wrote to its standard error. */
  get messages(): string {
    return this.#process.messages;
  }

  /** Firmware's part: gives every function on bus 0 its addresses and ports. */
  assignBars(): BarAssignment[] {
    return assignBars(this.access, BAR_WINDOW, PORT_WINDOW);
  }

  /** A command of QMP; see `QmpConnection.execute`. Events that came by then are in `events`. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): unknown {
    return this.#qmp.execute(command, args);
  }

  /** Looks for events; a device that left is reported to its driver. */
  pollEvents(): void {
    this.#qmp.poll();
  }

  /** Ends QEMU as a machine that loses power, and tells drivers. */
  kill(): void {
    this.#process.kill();
    this.qtest.settle();
    this.access.noticeRemovals();
  }

  /** Asks QEMU to end, waits for that, and names what drivers still hold of the machine. */
  close(): Promise<readonly string[]> {
    this.#disposing ??= this.#close();
    return this.#disposing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<readonly string[]> {
    try {
      this.qtest.settle();
      if (this.qtest.failure === undefined) this.execute('quit');
    } catch {
      this.#process.kill();
    }
    this.qtest[Symbol.dispose]();
    this.#qmp[Symbol.dispose]();
    await this.#process.end();
    this.interrupts[Symbol.dispose]();
    this.dma.free(this.#messagePage, PAGE_SIZE);
    this.#mapping.revoke();
    const { lentCount, coherentCount, usedPages } = this.dma;
    const held = { 'lent buffers': lentCount, 'coherent buffers': coherentCount, pages: usedPages };
    return Object.entries(held).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  }
}

/** The routing id under which `addr=<slot>` is found. */
export function slotBdf(slot: number): number {
  return pciBdf(slot);
}

function baseArguments(machine: string, memorySize: number): string[] {
  const size = String(memorySize);
  const text = [
    `-accel tcg -machine ${machine},memory-backend=ram,usb=off -nodefaults -no-user-config -display none`,
    `-qtest stdio -qtest-log /dev/null -bios ${fdPath(ROM_FD)} -m size=${size}B`,
    `-object memory-backend-file,id=ram,size=${size}B,mem-path=${fdPath(MEMORY_FD)},share=on`,
    `-chardev socket,id=qmp,fd=${QMP_FD} -mon chardev=qmp,mode=control`,
  ];
  return text.join(' ').split(' ');
}
