/** The suites of the device-hosting role, at a device whose queues are served by two sessions. */
import { RawPeer } from './testing/raw-peer.ts';

RawPeer.memberCount = 2;
await import('./backend.test.ts');
await import('./backend-hostile.test.ts');
await import('./back-channel.test.ts');
await import('./disabled-rings.test.ts');
await import('./inflight.test.ts');
await import('./memory-table.test.ts');
await import('./migration.test.ts');
await import('./ring-pause.test.ts');
