import { XS_FALSE, XS_TRUE } from '@virtlab/abi/xs-wire';
import type { OxOutcome } from './ox-engine.ts';
import { OX_ACK, type OxRequest, oxAck, oxFailure, oxReply, oxSplit } from './ox-request.ts';

/** XS_WATCH. The first event follows the reply. */
export function oxWatch({ engine, request, text }: OxRequest): OxOutcome {
  const [path, token, rest, ...excess] = oxSplit(text);
  if (path === undefined || token === undefined || rest !== '' || excess.length > 0) {
    return oxFailure('EINVAL');
  }
  const watch = request.store.watch(request.connection, path, token);
  if (typeof watch === 'string') return oxFailure(watch);
  return oxAck(() => engine.watches.fireFirst(watch, request.cause));
}

/** XS_UNWATCH. */
export function oxUnwatch({ request, text }: OxRequest): OxOutcome {
  const [path, token, rest, ...excess] = oxSplit(text);
  if (path === undefined || token === undefined || rest !== '' || excess.length > 0) {
    return oxFailure('EINVAL');
  }
  const failure = request.store.unwatch(request.connection, path, token);
  return failure === undefined ? OX_ACK : oxFailure(failure);
}

/** XS_RESET_WATCHES. */
export function oxResetWatches({ request }: OxRequest): OxOutcome {
  request.store.resetConnection(request.connection);
  return OX_ACK;
}

/** XS_TRANSACTION_START. Whatever the payload. */
export function oxTransactionStart({ request }: OxRequest): OxOutcome {
  if (request.transaction !== undefined) return oxFailure('EBUSY');
  const started = request.store.startTransaction(request.connection);
  return typeof started === 'string' ? oxFailure(started) : oxReply(`${started.id}\0`);
}

/** XS_TRANSACTION_END. Its events come before its reply. */
export function oxTransactionEnd({ request, text }: OxRequest): OxOutcome {
  const [argument] = oxSplit(text);
  if (argument !== XS_TRUE && argument !== XS_FALSE) return oxFailure('EINVAL');
  const { store, transaction } = request;
  if (transaction === undefined) return oxFailure('ENOENT');
  const failure = store.endTransaction(request, transaction, argument === XS_TRUE);
  return failure === undefined ? OX_ACK : oxFailure(failure);
}
