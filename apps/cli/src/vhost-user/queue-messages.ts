/** Between the thread that a split device is controlled from and those that serve its queues. */
import type { ProtocolFault, VhostUserBackendStatus } from '@virtlab/vhost-user';
import type { StartError } from '../start-error.ts';
import type { BlkPlan, DaemonPlan } from './daemon-plan.ts';
import type { Report, Traffic } from './report.ts';

/** What a thread is started with. */
export interface QueueThreadData {
  readonly plan: BlkPlan;
  /** Says for all what the driver asks of all. */
  readonly isFirst: boolean;
  /** For messages: where the device is served. */
  readonly name: string;
  readonly pollNs: DaemonPlan['pollNs'];
  readonly loop: DaemonPlan['loop'];
  /** Memory of all threads, where the disk is in memory. */
  readonly contents: Uint8Array | undefined;
  /** The image as the controlling thread has it, open and locked, for as long as there are threads. */
  readonly imageFd: number | undefined;
}

export type ToQueueThread =
  /** Serve the session at this socket, a descriptor of the process, which is the thread's once it says so. */
  { readonly kind: 'serve'; readonly fd: number } | { readonly kind: 'refresh' } | { readonly kind: 'end' };

export type FromQueueThread =
  | { readonly kind: 'ready'; readonly configSize: number }
  | { readonly kind: 'refused'; readonly startKind: StartError['kind']; readonly message: string }
  | { readonly kind: 'serving' }
  | { readonly kind: 'status'; readonly status: VhostUserBackendStatus }
  /** Before the session acknowledges that it has not done something: why. */
  | { readonly kind: 'refusal'; readonly reason: string }
  | {
      readonly kind: 'ended';
      readonly fault: ProtocolFault | undefined;
      readonly error: string | undefined;
      readonly traffic: Traffic;
    }
  | { readonly kind: 'report'; readonly report: Report }
  /** Something was thrown that nobody caught: the thread ends, in order. */
  | { readonly kind: 'failed'; readonly error: string }
  /** All is given back, and the thread ends; `problem` is what is left. */
  | { readonly kind: 'closed'; readonly problem: string | undefined };
