import { domId } from '@virtlab/abi/brands';
import { type ProfileName, describeXenstore } from './conformance.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { PROFILE_C_HEAD } from './profile-c-head.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';

const SUBJECTS = [PROFILE_C_4_17, PROFILE_C_HEAD, PROFILE_OXENSTORED].flatMap((profile) =>
  [64 * 1024, 7].map((capacitySize) => ({ profile, capacitySize })),
);

for (const { profile, capacitySize } of SUBJECTS) {
  describeXenstore({
    name: `memory, ${profile.name}, ${capacitySize} bytes under way`,
    profile: profile.name as ProfileName,
    capabilities: { guests: true },
    create: () => {
      const xenstore = createXenstore({ profile });
      return Promise.resolve({
        connect: (domid) => {
          const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize });
          xenstore.server.accept(serverEnd, { domid: domId(domid), privileged: domid === 0 });
          return Promise.resolve(clientEnd);
        },
        assertQuiescent: () => xenstore.assertQuiescent(),
        close: () => Promise.resolve(xenstore.close()),
      });
    },
  });
}
