import { memoryRegion } from '@virtlab/guest-memory';
import { type ProfileName, describeXenstore } from './conformance.ts';
import { createXenstore } from './create-xenstore.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { PROFILE_C_HEAD } from './profile-c-head.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';
import { RingStream, ringWord } from './ring-stream.ts';
import { connectRing } from './ring.ts';

const PROFILES = [PROFILE_C_4_17, PROFILE_C_HEAD, PROFILE_OXENSTORED];

/** Event channels that deliver soon, in order, and merge what is pending. */
function channel(onEvent: () => void): () => void {
  let isPending = false;
  return () => {
    if (isPending) return;
    isPending = true;
    setImmediate(() => {
      isPending = false;
      onEvent();
    });
  };
}

for (const profile of PROFILES) {
  describeXenstore({
    name: `ring pages, ${profile.name}`,
    profile: profile.name as ProfileName,
    capabilities: { guests: true },
    create: () => {
      const xenstore = createXenstore({ profile });
      return Promise.resolve({
        connect: (domid) => {
          const page = { ...memoryRegion(new SharedArrayBuffer(8192)), byteOffset: 4096 };
          // xenstore-ring.txt: nobody may assume that the indices start at zero. These pass 2^32 soon.
          for (const field of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) {
            page.u32[ringWord(page, field)] = 0xffff_fff0;
          }
          const server = new RingStream(page, 'server', () => toClient());
          const client = connectRing(page, () => toServer());
          const toServer = channel(() => server.onEvent());
          const toClient = channel(() => client.onEvent());
          xenstore.server.accept(server, { domid, privileged: domid === 0 });
          return Promise.resolve(client.stream);
        },
        assertQuiescent: () => xenstore.assertQuiescent(),
        close: () => Promise.resolve(xenstore.close()),
      });
    },
  });
}
