import type { DomId } from '@virtlab/abi/brands';
import { XENBUS_DIR_BACKEND, XENBUS_DIR_DEVICE, XENSTORE_HOME_PREFIX } from '@virtlab/abi/xenbus';

/** Which device: its kind (`virtio`, `vif`, …), its index in the frontend's domain, and the two domains. */
export interface DeviceId {
  readonly kind: string;
  readonly index: number;
  readonly frontendDomain: DomId;
  readonly backendDomain: DomId;
}

export function domainPath(domain: DomId): string {
  return `${XENSTORE_HOME_PREFIX}${domain}`;
}

/** The frontend's directory (xenstore-paths, "device"). */
export function frontendPath({ kind, index, frontendDomain }: DeviceId): string {
  return `${domainPath(frontendDomain)}/${XENBUS_DIR_DEVICE}/${kind}/${index}`;
}

/** The backend's directory (xenstore-paths, "backend"). */
export function backendPath({ kind, index, frontendDomain, backendDomain }: DeviceId): string {
  return `${backendsPath(backendDomain, kind)}/${frontendDomain}/${index}`;
}

/** Where all backends of a kind in a domain have their directories. */
export function backendsPath(backendDomain: DomId, kind: string): string {
  return `${domainPath(backendDomain)}/${XENBUS_DIR_BACKEND}/${kind}`;
}

/** Where all frontends of a kind in a domain have their directories. */
export function frontendsPath(frontendDomain: DomId, kind: string): string {
  return `${domainPath(frontendDomain)}/${XENBUS_DIR_DEVICE}/${kind}`;
}
