import type { Command } from 'commander';
import { VIRTIO_NET_MTU_MAX, VIRTIO_NET_MTU_MIN } from '@virtlab/abi/virtio-net';
import { InvalidArgumentError } from 'commander';
import { wholeNumber } from '../option-values.ts';
import { NET_CAPABILITIES } from './capabilities.ts';
import { daemonCommand } from './daemon-command.ts';
import { type NetFlags, netPlan } from './net-plan.ts';
import { collect, countUpTo, macAddress, powerOfTwo } from './option-values.ts';

const PLACE_COUNT_MAX = 64;
const PAIR_COUNT_MAX = 16;
const MTU_DEFAULT = 1500;

export function netCommand(): Command {
  return daemonCommand<NetFlags>({
    name: 'vhost-user-net',
    description:
      'Ports of a switch for QEMU’s -netdev vhost-user, one a socket. What else joins the switch: other daemons by its name,\n' +
      'an interface of the kernel, guests of QEMU’s -netdev stream, passt.',
    capabilities: NET_CAPABILITIES,
    placesMax: PLACE_COUNT_MAX,
    device: netPlan,
  })
    .option('--switch <name>', 'be one switch with the other daemons of this user that name it so')
    .option('--tap <interface>', 'a TAP interface on the switch; made if it is not there')
    .option(
      '--stream <socket>',
      'frames behind their lengths: connects if somebody listens, else listens; several',
      collect(String),
    )
    .option('--pcap <file>', 'capture the frames of the switch')
    .option('--mtu <bytes>', 'the largest payload', mtu, MTU_DEFAULT)
    .option(
      '--mac <address>',
      'of the first card, the others count up; what QEMU says overrides it',
      macAddress,
    )
    .option(
      '--num-queues <count>',
      'pairs of queues that a driver may use; one thread serves them all',
      countUpTo(PAIR_COUNT_MAX),
      1,
    )
    .option('--queue-size <count>', 'entries of each queue at most', powerOfTwo, 1024)
    .option(
      '--allow-shrink',
      'also take memory that is not sealed, as that of DPDK, and huge pages: whoever takes it back ends this process',
      false,
    );
}

function mtu(text: string): number {
  const value = wholeNumber(text);
  if (value >= VIRTIO_NET_MTU_MIN && value <= VIRTIO_NET_MTU_MAX) return value;
  throw new InvalidArgumentError(`It is not from ${VIRTIO_NET_MTU_MIN} to ${VIRTIO_NET_MTU_MAX}.`);
}
