/** What the device-hosting role does for each request ("Front-end message types"), but for those about rings. */
import {
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_MAX_CONFIG_SIZE,
} from '@virtlab/abi/vhost-user';
import { VIRTIO_F_RING_PACKED, hasFeature } from '@virtlab/abi/virtio';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { BackChannel } from './back-channel.ts';
import { protocolFeatureBit } from './backend-options.ts';
import type { HostingSession } from './hosting-session.ts';
import { ringHandlers } from './backend-ring-handlers.ts';
import type { MessageFds } from './connection.ts';
import { DirtyLog } from './dirty-log.ts';
import { takeEventFd } from './doorbells.ts';
import { type Outcome, type ProtocolFault, bad, good, hex, protocolFault } from './fault.ts';
import { InflightMemory, inflightRegionSize } from './inflight-area.ts';
import { MEM_SLOTS_MAX } from './memory-table.ts';
import type { ReplyPayloads, RequestPayloads } from './messages.ts';
import type { InflightArea, LogArea, RegionDescription } from './payload-memory.ts';
import { type MappedRegion, mapPieces } from './region-mapping.ts';
import { type Answer, type Handlers, answered } from './request-receiver.ts';
import { reachDomains } from './xen-memory.ts';

const STATUS_MAX = 0xffn;
const MTU_MAX = 0xffffn;
const OK = answered(undefined);
const SUCCESS = 0n;
/** A log of some writes is none: the two exclude each other, whichever comes first. */
const GRANTS_UNLOGGED = bad('REFUSED', 'what is written through grants is not logged');
/** Areas that this side keeps views of. */
const SHARED_SIZE_MAX = 1n << 32n;

export function backendHandlers(
  session: HostingSession,
  close: (fault: ProtocolFault) => void,
): Handlers<RequestPayloads, ReplyPayloads> {
  return {
    ...negotiationHandlers(session, close),
    ...memoryHandlers(session),
    ...deviceHandlers(session),
    ...ringHandlers(session),
  };
}

function negotiationHandlers(
  session: HostingSession,
  close: (fault: ProtocolFault) => void,
): Handlers<RequestPayloads, ReplyPayloads> {
  return {
    GET_FEATURES: () => good(session.negotiation.offered),
    SET_FEATURES: (features) => setFeatures(session, features),
    // Nobody else has the device; what some take it for, the beginning of a session, is the connection here.
    SET_OWNER: () => OK,
    RESET_OWNER: () => OK,
    GET_PROTOCOL_FEATURES: () => good(session.offeredProtocol),
    SET_PROTOCOL_FEATURES(features) {
      const unoffered = features & ~session.offeredProtocol;
      if (unoffered !== 0n) return bad('BAD_VALUE', `features ${hex(unoffered)} were not offered`);
      const needed = protocolFeatureBit('BACKEND_REQ') | protocolFeatureBit('REPLY_ACK');
      if ((features & protocolFeatureBit('INBAND_NOTIFICATIONS')) !== 0n && (features & needed) !== needed) {
        // "the back-end should close the connection": an acknowledgement could not say it.
        const fault = protocolFault('BAD_VALUE', 'INBAND_NOTIFICATIONS without BACKEND_REQ and REPLY_ACK');
        close(fault);
        return { ok: false, fault };
      }
      session.protocol = features;
      return OK;
    },
    GET_QUEUE_NUM: () => good(BigInt(session.queueNum)),
    SET_STATUS: (status) => setStatus(session, status),
    GET_STATUS: () => good(BigInt(session.negotiation.status)),
    RESET_DEVICE: async () => {
      await session.runner.stopAll();
      for (const vring of session.vrings) {
        vring.isStarted = false;
        vring.enabling = 'waiting';
        vring.base = 0;
        vring.doorbells.dropKick();
      }
      session.negotiation.noteStatus(0);
      await session.negotiation.reset();
      return OK;
    },
  };
}

async function setFeatures(session: HostingSession, features: bigint): Promise<Answer<undefined>> {
  const { negotiation, runner, vrings } = session;
  if (hasFeature(features, VHOST_F_LOG_ALL) && session.table.hasGrants) return GRANTS_UNLOGGED;
  if (!negotiation.isCurrent(features)) {
    if (runner.isAnyRunning && !negotiation.needsReset) {
      return bad('BAD_STATE', `features ${hex(features)} while rings run`);
    }
    await runner.stopAll();
    const fault = await negotiation.negotiate(features);
    // With STATUS the other side finds out by FEATURES_OK, as a driver of any transport does.
    if (fault !== undefined && (fault.code !== 'REFUSED' || !session.hasProtocol('STATUS')))
      return answered(fault);
  }
  const hasProtocolFeatures = hasFeature(features, VHOST_USER_F_PROTOCOL_FEATURES);
  if (!hasProtocolFeatures) for (const vring of vrings) vring.enabling = 'enabled';
  const wasLogging = session.isLogging;
  session.features = features;
  session.updateLog();
  // What is written is looked at from the start of a ring on.
  if (wasLogging !== session.isLogging) return answered(await runner.whileStopped(vrings, () => undefined));
  return answered(session.update());
}

async function setStatus(session: HostingSession, status: bigint): Promise<Answer<undefined>> {
  if (status > STATUS_MAX) return bad('BAD_VALUE', `status ${hex(status)}`);
  session.negotiation.noteStatus(Number(status));
  if (status !== 0n) return answered(session.update());
  // Requests that the device has are finished: where the rings stand is asked for after this.
  await session.runner.stopAll();
  for (const vring of session.vrings) vring.isStarted = false;
  await session.negotiation.reset();
  return OK;
}

function memoryHandlers(session: HostingSession): Handlers<RequestPayloads, ReplyPayloads> {
  const { table, runner, vrings } = session;
  const { xen } = session.options;
  return {
    SET_MEM_TABLE: async (regions, fds) => {
      if (regions.some((region) => isUnlogged(session, region))) return GRANTS_UNLOGGED;
      const reached = await reachDomains(xen, regions);
      return answered(await runner.whileStopped(vrings, () => table.set(regions, fds, reached)));
    },
    GET_MAX_MEM_SLOTS: () => good(BigInt(MEM_SLOTS_MAX)),
    ADD_MEM_REG: (region, fds) => {
      if (region.xen === undefined) return answered(table.add(region, fds) ?? session.update());
      return addXenRegion(session, region, fds);
    },
    REM_MEM_REG: async (region) => {
      if (!table.has(region)) return answered(table.remove(region));
      return answered(await runner.whileStopped(vrings, () => table.remove(region)));
    },
    SET_LOG_BASE: async (area, fds) => {
      if (table.hasGrants) return GRANTS_UNLOGGED;
      const mapped = mapArea(area, fds);
      if (!mapped.ok) return mapped;
      const old = session.log;
      const fault = await runner.whileStopped(session.isLogging ? vrings : [], () => {
        session.log = new DirtyLog(mapped.value, () => session.logEvent?.write());
        session.updateLog();
        return undefined;
      });
      if (fault === undefined) old?.revoke();
      else if (session.log?.isOver(mapped.value) !== true) mapped.value.revoke();
      return fault === undefined ? good(SUCCESS) : { ok: false, fault };
    },
    SET_LOG_FD(_, fds) {
      const taken = takeEventFd(fds);
      if (!taken.ok) return taken;
      session.logEvent?.close();
      session.logEvent = taken.value;
      return OK;
    },
    GET_INFLIGHT_FD: (area) => createInflight(session, area),
    SET_INFLIGHT_FD(area, fds) {
      if (runner.isAnyRunning) return bad('BAD_STATE', 'rings run');
      const mapped = mapArea(area, fds);
      if (!mapped.ok) return mapped;
      session.inflight?.revoke();
      session.inflight = new InflightMemory(mapped.value, area);
      return OK;
    },
  };
}

/** A table that begins or ends to hold grants is another one, under which no ring may run. */
async function addXenRegion(
  session: HostingSession,
  region: RegionDescription,
  fds: MessageFds,
): Promise<Answer<undefined>> {
  if (isUnlogged(session, region)) return GRANTS_UNLOGGED;
  const { table, runner, vrings, options } = session;
  const reached = await reachDomains(options.xen, [region]);
  return answered(await runner.whileStopped(vrings, () => table.add(region, fds, reached)));
}

/** Whether a log is there, or is to be, that would not show what is written to the region. */
function isUnlogged({ log, isLogging }: HostingSession, { xen }: RegionDescription): boolean {
  return xen?.kind === 'grant' && (log !== undefined || isLogging);
}

/** Maps what a message describes and its one descriptor holds. */
function mapArea({ size, offset }: LogArea | InflightArea, fds: MessageFds): Outcome<MappedRegion> {
  const fd = fds.take();
  if (fd === undefined) return bad('BAD_FDS', 'no descriptor came along');
  try {
    if (size === 0n || size % 8n !== 0n || offset % 8n !== 0n || size > SHARED_SIZE_MAX) {
      return bad('BAD_VALUE', `${hex(size)} bytes at ${hex(offset)} cannot be mapped`);
    }
    if (offset > BigInt(Number.MAX_SAFE_INTEGER) - SHARED_SIZE_MAX) {
      return bad('BAD_VALUE', `offset ${hex(offset)} is beyond any file`);
    }
    const mapped = mapPieces(fd, Number(offset), Number(size));
    if (!mapped.ok || mapped.value.pieces.length === 1) return mapped;
    mapped.value.revoke();
    return bad('BAD_VALUE', `${hex(size)} bytes at ${hex(offset)} are more than one view`);
  } finally {
    closeFd(fd);
  }
}

/** Memory that the other side keeps for whoever hosts the device after a crash. */
function createInflight(session: HostingSession, area: InflightArea): Answer<InflightArea> {
  const { queueCount, queueSize } = area;
  const isPacked = hasFeature(session.features, VIRTIO_F_RING_PACKED);
  const size = queueCount * inflightRegionSize(queueSize, isPacked);
  const fd = memfdCreate('vhost-inflight', size);
  return { ok: true, value: { size: BigInt(size), offset: 0n, queueCount, queueSize }, fds: [fd] };
}

function deviceHandlers(session: HostingSession): Handlers<RequestPayloads, ReplyPayloads> {
  const { host, options } = session;
  return {
    GET_CONFIG({ offset, bytes, isMigration }) {
      if (offset + bytes.length > Math.max(host.configSize, VHOST_USER_MAX_CONFIG_SIZE))
        return good(undefined);
      const out = new Uint8Array(bytes.length);
      host.readConfig(offset, out);
      return good({ offset, bytes: out, isMigration });
    },
    SET_CONFIG({ offset, bytes }) {
      if (offset + bytes.length > host.configSize) {
        return bad('BAD_VALUE', `${bytes.length} bytes at ${hex(offset)} of ${host.configSize}`);
      }
      host.writeConfig(offset, bytes);
      return OK;
    },
    NET_SET_MTU(mtu) {
      const isTaken = mtu <= MTU_MAX && options.setMtu?.(Number(mtu)) === true;
      return isTaken ? OK : bad('REFUSED', `MTU ${mtu}`);
    },
    SET_BACKEND_REQ_FD(_, fds) {
      const channel = BackChannel.from(fds, () => session.decodeContext);
      if (!channel.ok) return channel;
      session.backChannel?.[Symbol.dispose]();
      session.backChannel = channel.value;
      return OK;
    },
  };
}
