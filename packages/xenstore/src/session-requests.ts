import { XENSTORE_SERVER_FEATURE_WATCHDEPTH, XS_FALSE, XS_TRUE } from '@virtlab/abi/xs-wire';
import { atoi } from './c-number.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import { firstEventPath } from './store.ts';
import { nulStrings, singleString } from './wire.ts';

/** XS_WATCH. The reply comes first, then one event for the path itself. */
export function watch(request: Request): Outcome {
  const { connection, payload, store } = request;
  const [path, token, depthText, ...excess] = nulStrings(payload);
  if (path === undefined || token === undefined || excess.length > 0) return 'EINVAL';
  const depth = depthText === undefined ? -1 : atoi(depthText);
  const takesDepth = (connection.domain.features & XENSTORE_SERVER_FEATURE_WATCHDEPTH) !== 0;
  if (depthText !== undefined && (!takesDepth || depth < 0)) return 'EINVAL';
  const registered = store.watch(connection, path, token, depth);
  if (typeof registered === 'string') return registered;
  request.reply(ACK);
  request.sendEvent(firstEventPath(registered), token);
  return undefined;
}

/** XS_UNWATCH. */
export function unwatch(request: Request): Outcome {
  const [path, token, ...excess] = nulStrings(request.payload);
  if (path === undefined || token === undefined || excess.length > 0) return 'EINVAL';
  const failure = request.store.unwatch(request.connection, path, token);
  if (failure === undefined) request.reply(ACK);
  return failure;
}

/** XS_RESET_WATCHES. */
export function resetWatches(request: Request): Outcome {
  request.store.resetConnection(request.connection);
  request.reply(ACK);
  return undefined;
}

/** XS_TRANSACTION_START. There are no transactions within transactions. */
export function transactionStart(request: Request): Outcome {
  if (request.transaction !== undefined) return 'EBUSY';
  const started = request.store.startTransaction(request.connection);
  if (typeof started === 'string') return started;
  request.reply(`${started.id}\0`);
  return undefined;
}

/** XS_TRANSACTION_END. A wrong argument leaves the transaction open, anything else ends it. */
export function transactionEnd(request: Request): Outcome {
  const argument = singleString(request.payload);
  if (argument !== XS_TRUE && argument !== XS_FALSE) return 'EINVAL';
  if (request.transaction === undefined) return 'ENOENT';
  const failure = request.store.endTransaction(request, request.transaction, argument === XS_TRUE);
  if (failure === undefined) request.reply(ACK);
  return failure;
}
