import { VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU } from '@virtlab/abi/event-channel';

/** Whose a VIRQ is: each vCPU's, each domain's, or one domain's of the machine (Xen event_channel.c, `get_virq_type`). */
export type VirqKind = 'vcpu' | 'domain' | 'global';

export function virqKind(virq: number): VirqKind {
  switch (virq) {
    case VIRQ_TIMER:
    case VIRQ_DEBUG:
    case VIRQ_XENOPROF:
    case VIRQ_XENPMU:
      return 'vcpu';
    case VIRQ_ARGO:
      return 'domain';
    default:
      return 'global';
  }
}
