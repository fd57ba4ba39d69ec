/**
 * Branded primitives: numbers that must not be mistaken for one another. A constructor checks the range of the C type
 * and nothing more; whether a value names something that exists is for the operation to answer with its error code.
 */

declare const brand: unique symbol;

/** A domain: `domid_t`, 16 bits (xen.h). Reserved values are the `DOMID_*` of `xen.ts`. */
export type DomId = number & { readonly [brand]: 'DomId' };

/** An event-channel port of one domain: `evtchn_port_t`, 32 bits (event_channel.h). Port 0 is never allocated. */
export type EvtchnPort = number & { readonly [brand]: 'EvtchnPort' };

/** An index into the granter's grant table: `grant_ref_t`, 32 bits (grant_table.h). */
export type GrantRef = number & { readonly [brand]: 'GrantRef' };

/** The mapper's name for one mapping: `grant_handle_t`, 32 bits (grant_table.h). */
export type GrantHandle = number & { readonly [brand]: 'GrantHandle' };

/** A set of virtio features as a mask (VIRTIO §2.2). Bits reach beyond 32, so never a `number`. */
export type FeatureBits = bigint;

/** @throws RangeError if `value` is not a `domid_t` */
export function domId(value: number): DomId {
  return unsigned(value, 0xffff, 'domid_t') as DomId;
}

/** @throws RangeError if `value` is not an `evtchn_port_t` */
export function evtchnPort(value: number): EvtchnPort {
  return unsigned(value, 0xffff_ffff, 'evtchn_port_t') as EvtchnPort;
}

/** @throws RangeError if `value` is not a `grant_ref_t` */
export function grantRef(value: number): GrantRef {
  return unsigned(value, 0xffff_ffff, 'grant_ref_t') as GrantRef;
}

/** @throws RangeError if `value` is not a `grant_handle_t` */
export function grantHandle(value: number): GrantHandle {
  return unsigned(value, 0xffff_ffff, 'grant_handle_t') as GrantHandle;
}

function unsigned(value: number, max: number, type: string): number {
  if (!Number.isInteger(value) || value < 0 || value > max) throw new RangeError(`${value} is not a ${type}`);
  return value;
}
