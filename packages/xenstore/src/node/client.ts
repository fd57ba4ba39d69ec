/** What a client program needs and nothing of the daemon: loads in half the time of the whole package. */
export { XenstoreClient, XenstoreError, type XenstoreErrorCode } from '../client.ts';
export { connectXenstore } from './connect.ts';
export { clientSocketPath } from './runtime-directory.ts';
