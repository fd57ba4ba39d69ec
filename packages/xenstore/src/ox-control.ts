import type { OxOutcome } from './ox-engine.ts';
import { oxInteger } from './ox-number.ts';
import { OX_ACK, type OxRequest, isOxAdministrator, oxReply, oxSplit } from './ox-request.ts';

const QUEUE_CAPACITY_TEXT = 'used: {}';

/**
 * XS_CONTROL (`do_debug`): what it does not know, or cannot do, it acknowledges, and whatever an unprivileged domain
 * asks.
 */
export function oxControl(request: OxRequest): OxOutcome {
  if (!isOxAdministrator(request)) return OX_ACK;
  const [command, ...parameters] = oxSplit(request.text);
  const [parameter] = parameters;
  switch (command) {
    case 'print':
      if (parameter !== undefined) request.request.control.print?.(parameter);
      return OX_ACK;
    case 'quota':
      return quota(request, parameter);
    case 'watches':
      return watches(request);
    case 'xenbus':
      return xenbus(request, parameter);
    case 'mfn':
      return frame(request, parameter);
    case 'live-update':
      return liveUpdate(parameters.slice(0, -1), parameters.length > 0);
    default:
      return OX_ACK;
  }
}

function quota({ engine, request, view }: OxRequest, parameter: string | undefined): OxOutcome {
  const domid = parameter === undefined ? undefined : oxInteger(parameter);
  if (domid === undefined) return OX_ACK;
  const count = engine.nodeCountOf(domid, view);
  const use = count === undefined ? 'not set' : `${count}/${request.store.quotas.nodes}`;
  return oxReply(`dom${domid} quota: ${use}\0`);
}

/** Domains first, then sockets, which are numbered. */
function watches({ request }: OxRequest): OxOutcome {
  const ofDomains: string[] = [];
  const ofSockets: string[] = [];
  let socketCount = 0;
  for (const { domid, privileged, watches: held } of request.store.connections()) {
    if (privileged) socketCount += 1;
    const name = privileged ? `A${socketCount}` : `D${domid}`;
    for (const { path, token, hiddenSize } of [...held.values()].toReversed()) {
      (privileged ? ofSockets : ofDomains).push(`watch ${name}: ${path.slice(hiddenSize)} ${token}\n`);
    }
  }
  return oxReply(`${[...ofDomains, ...ofSockets].join('')}\0`);
}

/** Without a NUL at its end. Of the connection's state only what this daemon has. */
function xenbus({ request }: OxRequest, parameter: string | undefined): OxOutcome {
  const domid = parameter === undefined ? undefined : oxInteger(parameter);
  if (domid === undefined || request.store.domain(domid)?.introduced !== true) return OX_ACK;
  const { outstanding, watchEvents } = request.store.quotas;
  const state =
    `XenBus state: partial_in: 16 needed, partial_out: 0 bytes, pkt_out: 0 packets, ` +
    `BoundedQueue capacity: ${outstanding + watchEvents}, ${QUEUE_CAPACITY_TEXT}`;
  const overflow = [...request.store.connections()].find((each) => !each.privileged && each.domid === domid);
  return oxReply(
    `xenbus: ${state}; overflow queue length: ${overflow?.heldEventCount ?? 0}, can_input: true, ` +
      'has_more_input: false, has_old_output: false, has_new_output: false, has_more_work: false. ' +
      'pending: Watches with pending events: 0, pending events total: 0',
  );
}

function frame({ engine, request }: OxRequest, parameter: string | undefined): OxOutcome {
  const domid = parameter === undefined ? undefined : oxInteger(parameter);
  if (domid === undefined || request.store.domain(domid)?.introduced !== true) return OX_ACK;
  return oxReply(`${engine.introduced.get(domid)?.gfn ?? 0n}\0`);
}

/** There is nothing to update: an update can only be called off, everything else is refused in words. */
function liveUpdate(parameters: readonly string[], isComplete: boolean): OxOutcome {
  if (!isComplete || (parameters.length === 1 && parameters[0] === '-a')) return OX_ACK;
  return oxReply(`Unknown arguments: ${parameters.join(',')}`);
}
