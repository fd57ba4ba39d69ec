import { join } from 'node:path';
import { type LinuxGuest, startLinuxGuest, streamNet, vhostUserNet } from '@virtlab/linux-guest';
import type { BenchPlan, Contender } from '../contender.ts';
import { guestMissing, guestNs } from './guest-clock.ts';
import { TRANSFER_PROGRAMS, receiveCommand, sendCommand } from './guest-transfer.ts';
import { leaveOut } from './foreign-process.ts';
import { startVirtlab } from './virtlab-daemon.ts';

const SINK_PORT = 5000;
const CHECK_PORT = 5001;
const CHECKED_SIZE = 1 << 20;
const LIMIT = { timeoutMs: 60_000 };
const MAC = '52:54:00:00:00:0';

/** A way from one guest to the other. */
interface Cable {
  readonly name: string;
  readonly isPeer: boolean;
  /** Of the second guest. */
  readonly address: string;
  /** What is on the way beside both QEMUs. */
  readonly pids: readonly number[];
}

/** Two Linux guests with two cables between them: one by our switch, one by QEMU's own stream of frames. */
export class GuestNetwork {
  readonly #guests: readonly [LinuxGuest, LinuxGuest];
  readonly #cables: readonly Cable[];

  private constructor(guests: readonly [LinuxGuest, LinuxGuest], cables: readonly Cable[]) {
    this.#guests = guests;
    this.#cables = cables;
  }

  /** Undefined, and said, where guests cannot be started. All in `stack`. */
  static async start(plan: BenchPlan, stack: AsyncDisposableStack): Promise<GuestNetwork | undefined> {
    const reason = guestMissing();
    if (reason !== undefined) {
      leaveOut(`two Linux guests: ${reason}`, plan.onMissing);
      return undefined;
    }
    const sockets = [0, 1].map((side) => join(plan.folder, `guest-${side}.sock`));
    const stream = join(plan.folder, 'guest-stream.sock');
    const daemon = stack.use(
      await startVirtlab('vhost-user-net', ...sockets.flatMap((path) => ['--socket-path', path])),
    );
    const start = async (side: 0 | 1): Promise<LinuxGuest> => {
      const guest = stack.use(
        await startLinuxGuest({
          programs: TRANSFER_PROGRAMS,
          devices: [
            vhostUserNet({ id: 'net0', socketPath: sockets[side]!, mac: `${MAC}${side + 1}` }),
            streamNet({ id: 'net1', socketPath: stream, isServer: side === 0, mac: `${MAC}${side + 3}` }),
          ],
        }),
      );
      for (const card of [0, 1]) {
        await guest.output(
          `ip addr add 10.0.${card}.${side + 1}/24 dev eth${card} && ip link set eth${card} up`,
        );
      }
      return guest;
    };
    const guests = [await start(0), await start(1)] as const;
    const cables: readonly Cable[] = [
      { name: 'virtlab, switch', isPeer: false, address: '10.0.0.2', pids: [daemon.pid] },
      { name: 'QEMU, -netdev stream', isPeer: true, address: '10.0.1.2', pids: [] },
    ];
    const network = new GuestNetwork(guests, cables);
    await network.#open();
    return network;
  }

  /** Echo requests, each sent when the one before was answered. */
  echoes(): readonly Contender[] {
    return this.#contenders((guest, address, count) =>
      guestNs(guest, `ping -A -q -c ${count} ${address} >/dev/null`),
    );
  }

  /** A TCP connection for each run, closed when all was received. */
  transfers(): readonly Contender[] {
    return this.#contenders(async (guest, address, count) =>
      Number(await guest.output(sendCommand(SINK_PORT, address, count), LIMIT)),
    );
  }

  #contenders(
    runNs: (guest: LinuxGuest, address: string, count: number) => Promise<number>,
  ): readonly Contender[] {
    const [near, far] = this.#guests;
    return this.#cables.map(({ name, isPeer, address, pids }) => ({
      name,
      isPeer,
      pids: [near.pid, far.pid, ...pids],
      run: async (count) => ({ operationCount: count, elapsedNs: await runNs(near, address, count) }),
    }));
  }

  /** Neighbours know each other, what is sent comes unchanged, and somebody takes transfers. */
  async #open(): Promise<void> {
    const [near, far] = this.#guests;
    await far.output(receiveCommand(SINK_PORT));
    for (const { name, address } of this.#cables) {
      await near.waitUntil(`ping -c 1 -W 1 ${address} >/dev/null`);
      const received = '/tmp/received';
      const receiver = `nc -l -p ${CHECK_PORT} -e sh -c 'sha256sum >${received}'; cat ${received}`;
      const receiving = far.output(receiver);
      const file = '/tmp/sent';
      const sent = await near.output(
        `head -c ${CHECKED_SIZE} /dev/urandom >${file}; sha256sum <${file}
        until nc ${address} ${CHECK_PORT} <${file}; do usleep 20000; done; rm ${file}`,
      );
      if ((await receiving) !== sent) throw new Error(`${name}: something else was received than sent`);
    }
  }
}
