import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import { expect } from 'vitest';
import {
  type EventAbi,
  EventChannelError,
  type EventChannelHypercalls,
  type EventChannels,
} from '../contract.ts';

/** One domain of the machine under test. The suite takes over its ports; ports that it has at the start are left alone. */
export interface ConformanceDomain {
  readonly channels: EventChannels;
  readonly hypercalls: EventChannelHypercalls;
  /** Highest port number that it may allocate. */
  readonly portMax: number;
}

/** Three domains that share nothing with any other instance. `privileged` is domain 0, the others are not privileged. */
export interface EventChannelMachine {
  readonly privileged: ConformanceDomain;
  readonly left: ConformanceDomain;
  readonly right: ConformanceDomain;
  /** Resolves when every doorbell that was rung has led to its dispatch, and nothing is pending and unmasked. */
  run(): Promise<void>;
  /** Kills `right` without its help. */
  destroyRight?(): Promise<void>;
  /** Raises a VIRQ in `privileged`. */
  raiseVirq?(virq: number): Promise<void>;
  /** A fourth domain, with an open port 1, that was made and never started. */
  readonly paused?: DomId;
  dispose(): Promise<void>;
}

/** What an implementation's machine can do; tests of what it cannot are skipped. */
export interface EventChannelCapabilities {
  /** It has `destroyRight`. */
  readonly destroy: boolean;
  /** It has `raiseVirq`. */
  readonly virq: boolean;
  /** It has `paused`. Default: not. */
  readonly paused?: boolean;
  /** The ABI that all domains are switched to before each test. Default: 2-level. */
  readonly abi?: EventAbi;
  /** vCPUs of `left`. Default: 1. */
  readonly vcpuCount?: number;
  /** Physical interrupts that `left` may bind, from 0 on, one less than there are; `right` may bind none. Default: there are none. */
  readonly pirqCount?: number;
}

export interface EventChannelConformance {
  /** Names the implementation in the test names. */
  readonly name: string;
  readonly capabilities: EventChannelCapabilities;
  create(): EventChannelMachine | Promise<EventChannelMachine>;
}

/** Runs one test body on a fresh machine; afterwards all ports close and none may be left. */
export type OnMachine = (body: (machine: EventChannelMachine) => Promise<void>) => () => Promise<void>;

export function onMachine(
  suite: EventChannelConformance,
  abi: EventAbi = suite.capabilities.abi ?? '2l',
): OnMachine {
  return (body) => async () => {
    const machine = await suite.create();
    const domains = [machine.privileged, machine.left, machine.right];
    if (abi === 'fifo') for (const { channels } of domains) await channels.useFifo();
    const before = domains.map(({ channels }) => channels.openPorts());
    try {
      await body(machine);
      for (const [index, domain] of domains.entries()) {
        for (const port of newPorts(domain, before[index]!)) await domain.channels.close(port);
        expect(newPorts(domain, before[index]!), 'open ports at the end').toEqual([]);
      }
      await machine.run();
    } finally {
      await machine.dispose();
    }
  };
}

function newPorts(domain: ConformanceDomain, before: readonly EvtchnPort[]): readonly EvtchnPort[] {
  return domain.channels.openPorts().filter((port) => !before.includes(port));
}

/** The code that the operation fails with, or `none`; a failed operation must have changed no port of the domain. */
export async function failureOf(
  domain: ConformanceDomain,
  operation: () => Promise<unknown>,
): Promise<string> {
  const before = domain.channels.openPorts();
  try {
    await operation();
    return 'none';
  } catch (error) {
    if (!(error instanceof EventChannelError)) throw error;
    expect(domain.channels.openPorts(), `open ports after ${error.code}`).toEqual(before);
    return error.code;
  }
}

/** An interdomain channel: its two ports, and how often either end's handler ran. The lost-edge event is still due. */
export interface Channel {
  readonly from: ConformanceDomain;
  readonly to: ConformanceDomain;
  readonly fromPort: EvtchnPort;
  readonly toPort: EvtchnPort;
  readonly ran: { from: number; to: number };
}

/** `to` allocates, `from` binds; both get handlers that count. */
export async function connect(from: ConformanceDomain, to: ConformanceDomain): Promise<Channel> {
  const toPort = await to.channels.allocUnbound(from.channels.domain);
  const fromPort = await from.channels.bindInterdomain(to.channels.domain, toPort);
  const ran = { from: 0, to: 0 };
  to.channels.onEvent(toPort, () => void (ran.to += 1));
  from.channels.onEvent(fromPort, () => void (ran.from += 1));
  return { from, to, fromPort, toPort, ran };
}

/** The same, with the lost-edge event delivered and the counters at 0. */
export async function connectQuiet(
  machine: EventChannelMachine,
  from: ConformanceDomain,
  to: ConformanceDomain,
): Promise<Channel> {
  const channel = await connect(from, to);
  await machine.run();
  channel.ran.from = 0;
  channel.ran.to = 0;
  return channel;
}
