import {
  XS_CONTROL,
  XS_DIRECTORY,
  XS_ERROR,
  XS_GET_DOMAIN_PATH,
  XS_GET_PERMS,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_MKDIR,
  XS_READ,
  XS_RELEASE,
  XS_RESET_WATCHES,
  XS_RESUME,
  XS_RM,
  XS_SET_PERMS,
  XS_SET_TARGET,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import { byteString } from './byte-string.ts';
import { oxControl } from './ox-control.ts';
import {
  oxGetDomainPath,
  oxIntroduce,
  oxIsIntroduced,
  oxRelease,
  oxResume,
  oxSetTarget,
} from './ox-domain-requests.ts';
import type { OxEngine, OxOutcome } from './ox-engine.ts';
import {
  oxDirectoryRequest,
  oxGetPermissionsRequest,
  oxMkdirRequest,
  oxReadRequest,
  oxRmRequest,
  oxSetPermissionsRequest,
  oxWriteRequest,
} from './ox-node-requests.ts';
import { type OxHandler, type OxRequest, isOxAdministrator, oxFailure } from './ox-request.ts';
import {
  oxResetWatches,
  oxTransactionEnd,
  oxTransactionStart,
  oxUnwatch,
  oxWatch,
} from './ox-session-requests.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import { nulStrings } from './wire.ts';

interface OxEntry {
  readonly handle: OxHandler;
  /** Part of what a transaction is when it is done again; with any other request in it that cannot be. */
  readonly isRepeatable?: true;
}

const unknown: OxHandler = () => oxFailure('ENOSYS');

/** The operations by their number; all others are unknown. */
const HANDLERS: ReadonlyMap<number, OxEntry> = new Map<number, OxEntry>([
  [XS_CONTROL, { handle: oxControl }],
  [XS_DIRECTORY, { handle: oxDirectoryRequest, isRepeatable: true }],
  [XS_READ, { handle: oxReadRequest, isRepeatable: true }],
  [XS_GET_PERMS, { handle: oxGetPermissionsRequest, isRepeatable: true }],
  [XS_WATCH, { handle: oxWatch }],
  [XS_UNWATCH, { handle: oxUnwatch }],
  [XS_TRANSACTION_START, { handle: oxTransactionStart }],
  [XS_TRANSACTION_END, { handle: oxTransactionEnd }],
  [XS_INTRODUCE, { handle: oxIntroduce }],
  [XS_RELEASE, { handle: oxRelease }],
  [XS_GET_DOMAIN_PATH, { handle: oxGetDomainPath, isRepeatable: true }],
  [XS_WRITE, { handle: oxWriteRequest, isRepeatable: true }],
  [XS_MKDIR, { handle: oxMkdirRequest, isRepeatable: true }],
  [XS_RM, { handle: oxRmRequest, isRepeatable: true }],
  [XS_SET_PERMS, { handle: oxSetPermissionsRequest, isRepeatable: true }],
  [XS_WATCH_EVENT, { handle: unknown, isRepeatable: true }],
  [XS_ERROR, { handle: unknown, isRepeatable: true }],
  [XS_IS_DOMAIN_INTRODUCED, { handle: oxIsIntroduced }],
  [XS_RESUME, { handle: oxResume }],
  [XS_SET_TARGET, { handle: oxSetTarget }],
  [XS_RESET_WATCHES, { handle: oxResetWatches }],
]);

const UNKNOWN: OxEntry = { handle: unknown };

/**
 * One request to its end (`process_packet`): transaction before operation before arguments before permission; the reply,
 * and after it the events.
 */
export function handleOxRequest(
  engine: OxEngine,
  type: number,
  txId: number,
  request: Request,
): Outcome | Promise<Outcome> {
  const { transaction } = request;
  if (txId !== 0 && transaction === undefined) return 'EIO';
  const view = transaction === undefined ? undefined : engine.viewOf(transaction);
  const given = { engine, request, text: byteString(request.payload), view };
  if (engine.exceedsRequests(request.connection, view)) return 'EQUOTA';
  const extension = type === XS_CONTROL ? controlExtension(given) : undefined;
  if (extension !== undefined) return extension();
  const { handle, isRepeatable } = HANDLERS.get(type) ?? UNKNOWN;
  const finish = ({ answer, fire }: OxOutcome): Outcome => {
    if (engine.exceedsRequests(request.connection, view)) return 'EQUOTA';
    if (view !== undefined) {
      view.requestCount += 1;
      if (isRepeatable !== true) view.operations.push({ perform: undefined, answer });
    }
    if (answer.kind === 'error') return answer.code;
    request.reply(answer.kind === 'ack' ? ACK : answer.payload);
    fire();
    return undefined;
  };
  const outcome = handle(given);
  return outcome instanceof Promise ? outcome.then(finish) : finish(outcome);
}

/** A command that no real daemon has. */
function controlExtension(given: OxRequest): (() => Outcome | Promise<Outcome>) | undefined {
  const [name, ...parameters] = nulStrings(given.request.payload);
  const extension = name === undefined ? undefined : given.request.control.extensions?.get(name);
  if (extension === undefined || !isOxAdministrator(given)) return undefined;
  return () => extension(given.request, parameters);
}
