import type { DriverLink } from '@virtlab/virtio';

/** Collects what `onGone` says of a link. */
export function tellsOf({ transport }: DriverLink): readonly string[] {
  const told: string[] = [];
  transport.onGone((reason) => told.push(reason));
  return told;
}
