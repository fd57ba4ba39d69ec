/** What `--print-capabilities` says, in the terms of QEMU's docs/interop/vhost-user.json. */
export interface BackendCapabilities {
  readonly type: 'block' | 'net' | 'rng';
  readonly features: readonly string[];
}

export const BLK_CAPABILITIES: BackendCapabilities = { type: 'block', features: ['read-only', 'blk-file'] };
export const NET_CAPABILITIES: BackendCapabilities = { type: 'net', features: [] };
export const RNG_CAPABILITIES: BackendCapabilities = { type: 'rng', features: [] };

/** One JSON text on stdout. */
export function printCapabilities(capabilities: BackendCapabilities): void {
  process.stdout.write(`${JSON.stringify(capabilities, undefined, 2)}\n`);
}
