import { setTimeout } from 'node:timers/promises';
import { LinuxGuestError } from './error.ts';
import { type GuestDevice, type QmpCommand, plugCommands, removalCommands } from './guest-device.ts';
import type { QmpClient } from './qmp-client.ts';

/** What QEMU says of a chardev or a node that still has a user. */
const IN_USE = /\bis (?:busy|in use)/;
const LOOK_PERIOD_MS = 5;

/** Ports of PCI Express that devices are plugged into: the root bus of the machine q35 takes none while it runs. */
export class PlugSlots {
  readonly #qmp: QmpClient;
  readonly #free: string[];
  readonly #plugged = new Map<string, { readonly slot: string; readonly device: GuestDevice }>();

  constructor(qmp: QmpClient, count: number) {
    this.#qmp = qmp;
    this.#free = Array.from({ length: count }, (_, index) => slotName(index));
  }

  /** QEMU's arguments for so many slots. */
  static arguments(count: number): readonly string[] {
    return Array.from({ length: count }, (_, index) => [
      '-device',
      // A chassis and a number are what tells ports apart.
      `pcie-root-port,id=${slotName(index)},chassis=${index + 1},slot=${index + 1}`,
    ]).flat();
  }

  has(id: string): boolean {
    return this.#plugged.has(id);
  }

  async plug(device: GuestDevice): Promise<void> {
    if (this.#plugged.has(device.id)) throw new RangeError(`a device ${device.id} is plugged already`);
    const slot = this.#free.shift();
    if (slot === undefined) throw new RangeError('no free slot: say how many the guest needs by slotCount');
    let doneCount = 0;
    try {
      for (const command of plugCommands(device, slot)) {
        await this.#execute(command);
        doneCount++;
      }
    } catch (error) {
      this.#free.unshift(slot);
      await this.#undo(device, doneCount);
      throw error;
    }
    this.#plugged.set(device.id, { slot, device });
  }

  async unplug(id: string, timeoutMs: number): Promise<void> {
    const plugged = this.#plugged.get(id);
    if (plugged === undefined) throw new RangeError(`no device ${id} was plugged`);
    const deleted = this.#qmp.nextEvent(
      ({ event, data }) => event === 'DEVICE_DELETED' && data?.['device'] === id,
      timeoutMs,
    );
    deleted.catch(() => undefined); // the command may fail first
    await this.#execute({ command: 'device_del', parameters: { id } });
    await deleted;
    this.#plugged.delete(id);
    for (const command of removalCommands(plugged.device)) await this.#executeOnceFree(command, timeoutMs);
    this.#free.unshift(plugged.slot);
  }

  /** Of the commands that plug a device, the first `count` were done. */
  async #undo(device: GuestDevice, count: number): Promise<void> {
    const commands = removalCommands(device); // in the opposite order, and nothing for the device itself
    for (const command of commands.slice(commands.length - count)) {
      await this.#execute(command).catch((error: unknown) => {
        if (!(error instanceof LinuxGuestError)) throw error;
      });
    }
  }

  /**
   * QEMU says that a device is deleted before it lets go of what the device had: it does once none of its threads can be looking
   * at the device any more (RCU), and nothing tells when that is.
   */
  async #executeOnceFree(command: QmpCommand, timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      try {
        await this.#execute(command);
        return;
      } catch (error) {
        const isBusy = error instanceof LinuxGuestError && error.code === 'qmp' && IN_USE.test(error.message);
        if (!isBusy || performance.now() > end) throw error;
        await setTimeout(LOOK_PERIOD_MS);
      }
    }
  }

  #execute({ command, parameters }: QmpCommand): Promise<unknown> {
    return this.#qmp.execute(command, parameters);
  }
}

function slotName(index: number): string {
  return `slot${index}`;
}
