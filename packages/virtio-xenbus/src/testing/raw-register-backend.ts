import { type EvtchnPort, type GrantHandle, type GrantRef, evtchnPort } from '@virtlab/abi/brands';
import { XenbusState } from '@virtlab/abi/xenbus';
import type { MappedArea } from '@virtlab/guest-memory';
import type { RegisterAccess } from '../register-page/access.ts';
import { DeviceRegisterPage } from '../register-page/device-register-page.ts';
import type { RigDevice } from './rig-device.ts';

/** What a backend of the test's own makes of accesses. */
export interface RawBackendOptions {
  /** Answers what is read; undefined leaves the access in the page, for `answerLate`. */
  readonly answer: (access: RegisterAccess) => number | undefined;
  /** Whether it sends an event when it has answered; that of 2011 does not. Default true. */
  readonly sendsEvents?: boolean;
}

/** A backend that makes the handshake of the register-page profile and answers accesses as the test likes. */
export class RawRegisterBackend {
  readonly #place: RigDevice;
  readonly #options: RawBackendOptions;
  #page: DeviceRegisterPage | undefined;
  #port = 0 as EvtchnPort;
  #handle: number | undefined;
  readonly #ports: EvtchnPort[] = [];
  #unanswered: RegisterAccess | undefined;
  accessCount = 0;

  constructor(place: RigDevice, options: RawBackendOptions) {
    this.#place = place;
    this.#options = options;
  }

  /** Offers; the driver may then begin, and `accept` follows once it is Initialised. */
  async offer(): Promise<void> {
    const keys = { type: 'virtio,device2a', transport: 'xenbus', profile: 'register-page', state: '2' };
    for (const [key, value] of Object.entries(keys)) await this.#write(key, value);
  }

  async accept(): Promise<void> {
    const { rig, backend, frontend, frontendPath } = this.#place;
    const read = async (key: string): Promise<number> =>
      Number(await rig.run(rig.toolstack.readText(`${frontendPath}/${key}`)));
    await backend.mapDomain(frontend.id);
    this.#handle = backend.grantMapper.map(frontend.id, (await read('page-gref')) as GrantRef, true);
    const area: MappedArea = {
      region: backend.grantMapper.ram(frontend.id)!,
      offset: backend.grantMapper.frame * 4096,
      size: 4096,
    };
    this.#page = new DeviceRegisterPage(area);
    for (const key of ['event-channel', 'event-channel2'])
      this.#ports.push(await backend.events.bindInterdomain(frontend.id, evtchnPort(await read(key))));
    this.#port = this.#ports[0]!;
    backend.events.onEvent(this.#port, () => this.#take());
    await this.#write('state', String(XenbusState.Connected));
  }

  interrupt(): void {
    this.#place.backend.events.send(this.#ports[1]!);
  }

  /** Answers the access that was left. */
  answerLate(value: number): void {
    const access = this.#unanswered;
    if (access === undefined) throw new Error('Nothing waits');
    this.#unanswered = undefined;
    this.#answer(access, value);
  }

  /** Lets go of everything and says so. */
  async close(): Promise<void> {
    const { backend, rig } = this.#place;
    for (const port of this.#ports.splice(0)) await backend.events.close(port);
    if (this.#handle !== undefined) backend.grantMapper.unmap(this.#handle as GrantHandle);
    this.#handle = undefined;
    this.#page = undefined;
    if (rig.domain(backend.id) !== undefined) await this.#write('state', String(XenbusState.Closed));
  }

  #take(): void {
    const access = this.#page?.take();
    if (access === undefined || access === 'malformed') return;
    this.accessCount += 1;
    const value = this.#options.answer(access);
    if (value === undefined) this.#unanswered = access;
    else this.#answer(access, value);
  }

  #answer(access: RegisterAccess, value: number): void {
    this.#page?.answer(access, value);
    if (this.#options.sendsEvents !== false) this.#place.backend.events.send(this.#port);
  }

  async #write(key: string, value: string): Promise<void> {
    const { rig, backend, backendPath } = this.#place;
    await rig.run(backend.store.write(`${backendPath}/${key}`, value));
  }
}
