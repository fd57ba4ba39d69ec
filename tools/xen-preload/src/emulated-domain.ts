import { closeSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { RealDomain } from './contract.ts';
import type { EventSocket } from './event-socket.ts';
import type { MachineFile } from './machine.ts';

/** INTRODUCE wants a frame number. C daemons map grant 1 instead, and the preload library maps the one page there is. */
const RING_GFN = 0xfeff0;

/** File name of a domain's ring page in the directory of the daemon; the preload library opens it by that name. */
export function ringName(domid: number): string {
  return `ring-${domid}`;
}

/** Makes the zeroed page. The file must not exist. */
export function makeRingPage(directory: string, domid: number): string {
  const path = join(directory, ringName(domid));
  const fd = openSync(path, 'wx', 0o600);
  ftruncateSync(fd, XEN_PAGE_SIZE);
  closeSync(fd);
  return path;
}

/** The domain's side of what the daemon sees: page, channel, existence. */
export class EmulatedDomain implements RealDomain {
  readonly domid: number;
  readonly ringPath: string;
  readonly gfn: number = RING_GFN;
  readonly port: number;
  readonly #machine: MachineFile;
  readonly #events: EventSocket;
  readonly #onClose: (domain: EmulatedDomain) => void;

  constructor(
    domid: number,
    directory: string,
    machine: MachineFile,
    events: EventSocket,
    onClose: (domain: EmulatedDomain) => void,
  ) {
    this.domid = domid;
    this.#machine = machine;
    this.#events = events;
    this.#onClose = onClose;
    this.port = machine.offerChannel(domid);
    this.ringPath = makeRingPage(directory, domid);
    machine.addDomain(domid);
    if (machine.isPolledForChanges) events.raiseDomainException();
  }

  kick(): void {
    this.#events.send(this.port);
  }

  listen(onEvent: () => void): void {
    this.#events.listen(this.port, onEvent);
  }

  close(): void {
    this.#onClose(this);
  }

  /** The domain is gone, and with it its page and its end of the channel; the daemon keeps its mapping until it lets go. */
  vanish(): void {
    this.#events.forget(this.port);
    this.#machine.withdrawChannel(this.port);
    this.#machine.removeDomain(this.domid);
    rmSync(this.ringPath, { force: true });
    this.#events.raiseDomainException();
  }
}
