/** XenBus: device states and the keys that every pair of ends has. Header: xen/io/xenbus.h; document: xenstore-paths. */

/** xenbus.h, enum xenbus_state: written in decimal to `<device>/state`. */
export const XenbusState = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const;

/** A value of `XenbusState`. */
export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];

/** State of this end (xenbus.h). */
export const XENBUS_KEY_STATE = 'state';
/** In the frontend's directory: path of the backend's (xenstore-paths). */
export const XENBUS_KEY_BACKEND = 'backend';
/** In the frontend's directory: domain of the backend (xenstore-paths). */
export const XENBUS_KEY_BACKEND_ID = 'backend-id';
/** In the backend's directory: path of the frontend's (xenstore-paths). */
export const XENBUS_KEY_FRONTEND = 'frontend';
/** In the backend's directory: domain of the frontend (xenstore-paths). */
export const XENBUS_KEY_FRONTEND_ID = 'frontend-id';
/** In the backend's directory: 0 when the toolstack unplugs the device (xenstore-paths). */
export const XENBUS_KEY_ONLINE = 'online';
/** In the backend's directory: result of the hotplug script (xenstore-paths). */
export const XENBUS_KEY_HOTPLUG_STATUS = 'hotplug-status';
/** Below a domain's `error/<device>` directory: text of the last failure (xenstore-paths). */
export const XENBUS_KEY_ERROR = 'error';

/** Directory of a domain's home that holds its frontends, `device/<type>/<id>` (xenstore-paths). */
export const XENBUS_DIR_DEVICE = 'device';
/** Directory of a domain's home that holds its backends, `backend/<type>/<domid>/<id>` (xenstore-paths). */
export const XENBUS_DIR_BACKEND = 'backend';
/** Directory of a domain's home that holds its failures, `error/<device>/error` (xenstore-paths). */
export const XENBUS_DIR_ERROR = 'error';
/** Parent of all homes: `/local/domain/<domid>` (xenstore-paths). */
export const XENSTORE_HOME_PREFIX = '/local/domain/';
