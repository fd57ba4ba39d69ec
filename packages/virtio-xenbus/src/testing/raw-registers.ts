import type { EvtchnPort } from '@virtlab/abi/brands';
import { VIRTIO_CONFIG_PAGE, VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';
import { XenbusState } from '@virtlab/abi/xenbus';
import type { CoherentBuffer } from '@virtlab/guest-memory';
import { type GrantDmaMapper, createGrantDmaMapper } from '../grant-dma-mapper.ts';
import { DriverRegisterPage } from '../register-page/driver-register-page.ts';
import type { RegisterName } from '../register-page/access.ts';
import type { RigDevice } from './rig-device.ts';

const { offset: AT, width: WIDTH } = VIRTIO_XENBUS_REGISTERS;

/** A frontend that makes each register access by hand, as the driver of 2011 does: it waits on `be_active` alone. */
export class RawRegisters {
  readonly dma: GrantDmaMapper;
  readonly page: CoherentBuffer;
  readonly accessPort: EvtchnPort;
  readonly interruptPort: EvtchnPort;
  interruptCount = 0;
  readonly #place: RigDevice;
  readonly #view: DriverRegisterPage;

  constructor(place: RigDevice, dma: GrantDmaMapper, accessPort: EvtchnPort, interruptPort: EvtchnPort) {
    this.#place = place;
    this.dma = dma;
    this.page = dma.allocateCoherent(4096);
    this.#view = new DriverRegisterPage(dma.memory, this.page.offset);
    this.accessPort = accessPort;
    this.interruptPort = interruptPort;
    place.frontend.events.onEvent(interruptPort, () => (this.interruptCount += 1));
  }

  /** `lies` are written instead of what is true. */
  static async connect(
    place: RigDevice,
    lies: Readonly<Record<string, string | Uint8Array>> = {},
  ): Promise<RawRegisters> {
    const { frontend, backend, rig } = place;
    const { memory, pages, grants, events, store } = frontend;
    const dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: backend.id });
    const ports = [await events.allocUnbound(backend.id), await events.allocUnbound(backend.id)] as const;
    const registers = new RawRegisters(place, dma, ...ports);
    const keys = {
      'page-gref': String(registers.page.addressLow >>> 12),
      'event-channel': String(ports[0]),
      'event-channel2': String(ports[1]),
      state: String(XenbusState.Initialised),
    };
    for (const [key, value] of Object.entries(keys))
      await rig.run(store.write(`${place.frontendPath}/${key}`, lies[key] ?? value));
    await rig.settle();
    return registers;
  }

  async read(name: RegisterName): Promise<number> {
    return await this.access(false, AT[name], WIDTH[name], 0);
  }

  async write(name: RegisterName, value: number): Promise<void> {
    await this.access(true, AT[name], WIDTH[name], value);
  }

  /** Rejects when it is not answered. */
  async access(isWrite: boolean, offset: number, size: number, value: number): Promise<number> {
    this.#view.post(isWrite, offset, size, value);
    this.#place.frontend.events.send(this.accessPort);
    await this.#place.rig.settle();
    if (this.#view.isActive) throw new Error(`be_active was not cleared: ${offset}, ${size} bytes`);
    return this.#view.answer(offset, size);
  }

  /** Any words of the structure. */
  async postWords(words: Readonly<Record<'write' | 'size' | 'offset' | 'be_active', number>>): Promise<void> {
    const { u32 } = this.dma.memory;
    for (const [name, value] of Object.entries(words) as ['write', number][])
      u32[(this.page.offset + VIRTIO_CONFIG_PAGE.offset[name]) / 4] = value;
    this.#place.frontend.events.send(this.accessPort);
    await this.#place.rig.settle();
  }

  /** Says Closed and takes everything back; answers whether the backend had let go of the page. */
  async close(): Promise<boolean> {
    const { frontend, frontendPath, rig } = this.#place;
    await rig.run(frontend.store.write(`${frontendPath}/state`, String(XenbusState.Closed)));
    await rig.settle();
    for (const port of [this.accessPort, this.interruptPort]) await frontend.events.close(port);
    return this.dma.freeCoherent(this.page);
  }
}
