/** What the device-hosting role does for the requests about rings ("Ring states"). */
import { VIRTIO_F_RING_PACKED, hasFeature } from '@virtlab/abi/virtio';
import { VHOST_USER_F_PROTOCOL_FEATURES } from '@virtlab/abi/vhost-user';
import type { HostingSession } from './hosting-session.ts';
import { bad, good, protocolFault } from './fault.ts';
import type { ReplyPayloads, RequestPayloads } from './messages.ts';
import type { VringAddresses } from './payload-memory.ts';
import { type Answer, type Handlers, answered } from './request-receiver.ts';
import type { Vring } from './vring.ts';

export function ringHandlers(session: HostingSession): Handlers<RequestPayloads, ReplyPayloads> {
  const { vrings, host } = session;
  /** What a running ring is made of does not change under it. */
  const whileIdle = (index: number, what: string, change: (vring: Vring) => void): Answer<undefined> => {
    const vring = vrings[index]!;
    if (vring.isRunning) return bad('BAD_STATE', `${what} of queue ${index}, which runs`);
    change(vring);
    return answered(undefined);
  };
  return {
    SET_VRING_NUM({ index, num }) {
      const sizeMax = host.queueSizeMax(index);
      if (num === 0 || num > sizeMax) {
        return bad('BAD_VALUE', `queue ${index} of ${num} entries, not 1 to ${sizeMax}`);
      }
      return whileIdle(index, 'size', (vring) => (vring.size = num));
    },
    SET_VRING_ADDR: (addresses) => setAddresses(session, addresses),
    SET_VRING_BASE({ index, num }) {
      if (num > 0xffff && !hasFeature(host.driverFeatures, VIRTIO_F_RING_PACKED)) {
        return bad('BAD_VALUE', `base ${num} of queue ${index} has more than 16 bits`);
      }
      return whileIdle(index, 'base', (vring) => (vring.base = num));
    },
    GET_VRING_BASE: async ({ index }) => {
      const vring = vrings[index]!;
      await session.runner.stop(vring);
      vring.isStarted = false;
      vring.doorbells.dropKick();
      return good({ index, num: vring.base });
    },
    SET_VRING_KICK({ index }, fds) {
      const vring = vrings[index]!;
      const fault = vring.doorbells.setKick(fds);
      return fault === undefined ? start(session, vring) : { ok: false, fault };
    },
    SET_VRING_CALL: ({ index }, fds) => answered(vrings[index]!.doorbells.setCall(fds)),
    SET_VRING_ERR: ({ index }, fds) => answered(vrings[index]!.doorbells.setError(fds)),
    SET_VRING_ENABLE: async ({ index, num }) => {
      // Many send it before SET_FEATURES, which decides whether it means anything.
      if (session.features !== 0n && !hasFeature(session.features, VHOST_USER_F_PROTOCOL_FEATURES)) {
        return answered(protocolFault('BAD_STATE', 'the protocol features bit was not acknowledged'));
      }
      const vring = vrings[index]!;
      const before = vring.enabling;
      vring.enabling = num === 1 ? 'enabled' : vring.isStarted ? 'disabled' : 'waiting';
      // What runs is the device's, or is discarded.
      if (vring.enabling !== before) await session.runner.stop(vring);
      return answered(session.update());
    },
    VRING_KICK({ index }) {
      const vring = vrings[index]!;
      return vring.isStarted ? look(session, vring) : start(session, vring);
    },
  };
}

/** Starts a ring, and looks at it: whoever kicked before may not kick again. */
function start(session: HostingSession, vring: Vring): Answer<undefined> {
  if (!vring.isStarted && vring.enabling === 'disabled') vring.enabling = 'waiting';
  vring.isStarted = true;
  const fault = session.update();
  return fault === undefined ? look(session, vring) : { ok: false, fault };
}

function look({ host }: HostingSession, { index }: Vring): Answer<undefined> {
  host.kick(index);
  return answered(undefined);
}

/** Of a running ring only what is logged of it may change, as it does when a migration begins or ends. */
async function setAddresses(session: HostingSession, addresses: VringAddresses): Promise<Answer<undefined>> {
  const vring = session.vrings[addresses.index]!;
  const old = vring.addresses;
  if (!vring.isRunning || old === undefined) {
    vring.addresses = addresses;
    return answered(undefined);
  }
  const isSame =
    old.descriptorArea === addresses.descriptorArea &&
    old.driverArea === addresses.driverArea &&
    old.deviceArea === addresses.deviceArea;
  if (!isSame) return bad('BAD_STATE', `addresses of queue ${addresses.index}, which runs`);
  const fault = await session.runner.whileStopped([vring], () => {
    vring.addresses = addresses;
    return undefined;
  });
  return answered(fault);
}
