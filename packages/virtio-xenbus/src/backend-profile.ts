import { VIRTIO_XENBUS_KEY_PROFILE, VIRTIO_XENBUS_PROFILE_NATIVE } from '@virtlab/abi/virtio-xenbus';
import type { DeviceHost } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError, type XenbusKeys, quote } from '@virtlab/xenbus';
import { nativeOfferKeys, registerPageOfferKeys } from './device-offer.ts';
import { NativeSession } from './native-session.ts';
import { type XenbusProfile, parseProfile } from './profile.ts';
import { RegisterPageSession } from './register-page/session.ts';
import type { BackendSession, SessionOptions } from './session-parts.ts';

/** The toolstack's choice; without one it is native. */
export async function readProfile(device: XenbusDevice): Promise<XenbusProfile> {
  const text = await device.readOwn(VIRTIO_XENBUS_KEY_PROFILE);
  if (text === undefined) return VIRTIO_XENBUS_PROFILE_NATIVE;
  const profile = parseProfile(text);
  if (profile !== undefined) return profile;
  throw new XenbusError(
    'EINVAL',
    `${device.path}/${VIRTIO_XENBUS_KEY_PROFILE}`,
    `${quote(text)} is no profile`,
  );
}

/** What a backend writes of its device. Throws `RangeError` for one that the profile cannot carry. */
export function offerKeys(profile: XenbusProfile, host: DeviceHost): XenbusKeys {
  return profile === VIRTIO_XENBUS_PROFILE_NATIVE ? nativeOfferKeys(host) : registerPageOfferKeys(host);
}

export function createSession(profile: XenbusProfile, options: SessionOptions): BackendSession {
  return profile === VIRTIO_XENBUS_PROFILE_NATIVE
    ? new NativeSession(options)
    : new RegisterPageSession(options);
}
