import { type Peer, type PeerName, findPeer } from './peers.ts';

/** Whether tests with that daemon are to be skipped: it is missing, and peers are not required. Says why, once. */
export function mustSkip(name: PeerName): boolean {
  const peer = findPeer(name);
  if (typeof peer !== 'string' || process.env['VIRTLAB_REQUIRE_PEERS'] === '1') return false;
  console.warn(`skipped: ${name} ${peer}`);
  return true;
}

/** The daemon. Throws, naming the missing package. */
export function requiredPeer(name: PeerName): Peer {
  const peer = findPeer(name);
  if (typeof peer === 'string') throw new Error(`${name}: ${peer}`);
  return peer;
}
