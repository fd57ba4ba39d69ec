import {
  VIRTIO_XENBUS_PROFILE_NATIVE,
  VIRTIO_XENBUS_PROFILE_REGISTER_PAGE,
} from '@virtlab/abi/virtio-xenbus';

/** The protocols that two ends can speak: values of the backend's key `profile`. */
export type XenbusProfile = typeof VIRTIO_XENBUS_PROFILE_NATIVE | typeof VIRTIO_XENBUS_PROFILE_REGISTER_PAGE;

/** Undefined for a text that names none. */
export function parseProfile(text: string): XenbusProfile | undefined {
  return text === VIRTIO_XENBUS_PROFILE_NATIVE || text === VIRTIO_XENBUS_PROFILE_REGISTER_PAGE
    ? text
    : undefined;
}
