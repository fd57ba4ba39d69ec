import { describeStatus, type DeviceQueueStatistics } from '@virtlab/virtio';
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { VHOST_USER_PROTOCOL_F } from '@virtlab/abi/vhost-user';
import { backendHandlers } from './backend-handlers.ts';
import type { VhostUserBackendEnd, ServeVhostUserOptions } from './backend-options.ts';
import { HostingSession } from './hosting-session.ts';
import type { MessageStream } from './connection.ts';
import { REQUESTS, type ReplyPayloads, type RequestPayloads } from './messages.ts';
import { protocolFeatureBit } from './backend-options.ts';
import { RequestReceiver } from './request-receiver.ts';

/** One ring as it stands. */
export interface VringStatus {
  readonly size: number;
  readonly isStarted: boolean;
  readonly isEnabled: boolean;
  /** Of one that is not enabled: what comes is discarded. */
  readonly isRunning: boolean;
  readonly statistics: DeviceQueueStatistics;
}

/** A connection as it stands; plain data. */
export interface VhostUserBackendStatus {
  readonly features: bigint;
  readonly protocolFeatures: readonly VhostUserProtocolFeature[];
  readonly status: string;
  readonly regionCount: number;
  readonly isLogging: boolean;
  readonly vrings: readonly VringStatus[];
}

/** A device that is served to one VhostUserFrontend. */
export interface VhostUserBackend extends AsyncDisposable {
  /**
   * Resolves when the connection is over, the device reset, and all descriptors and mappings are given back, but for what `error`
   * says could not be. Never rejects.
   */
  readonly ended: Promise<VhostUserBackendEnd>;
  status(): VhostUserBackendStatus;
  /** Ends the connection from this side; resolves as `ended`. */
  close(): Promise<VhostUserBackendEnd>;
}

/**
 * Hosts a device on a connection until either side ends it. Owns the stream. Nothing that the other side sends throws;
 * what cannot be right ends the connection with a fault that says what it was. Throws `TypeError` when the host is in use.
 */
export function serveVhostUser(stream: MessageStream, options: ServeVhostUserOptions): VhostUserBackend {
  const session = new HostingSession(options);
  const ended = Promise.withResolvers<VhostUserBackendEnd>();
  const receiver: RequestReceiver<RequestPayloads, ReplyPayloads> = new RequestReceiver({
    stream,
    table: REQUESTS,
    handlers: backendHandlers(session, (fault) => receiver.close(fault)),
    decodeContext: () => session.decodeContext,
    hasFeature: (name) => session.hasProtocol(name),
    onRequest: (name) => options.onRequest?.(name),
    onRefusal: (reason) => options.onRefusal?.(reason),
    onEnd: (fault, error) => {
      const end = (failure?: unknown): void => ended.resolve({ fault, error: error ?? failure });
      void session.end().then(() => end(), end);
    },
  });
  const close = async (): Promise<VhostUserBackendEnd> => {
    receiver.close();
    return await ended.promise;
  };
  return {
    ended: ended.promise,
    status: () => statusOf(session),
    close,
    [Symbol.asyncDispose]: async () => {
      await close();
    },
  };
}

function statusOf({
  features,
  protocol,
  host,
  table,
  isLogging,
  vrings,
}: HostingSession): VhostUserBackendStatus {
  const names = Object.keys(VHOST_USER_PROTOCOL_F) as VhostUserProtocolFeature[];
  return {
    features,
    protocolFeatures: names.filter((name) => (protocol & protocolFeatureBit(name)) !== 0n),
    status: describeStatus(host.status),
    regionCount: table.regionCount,
    isLogging,
    vrings: vrings.map(({ index, size, isStarted, enabling, isRunning }) => ({
      size,
      isStarted,
      isEnabled: enabling === 'enabled',
      isRunning,
      statistics: { ...host.statistics[index]! },
    })),
  };
}
