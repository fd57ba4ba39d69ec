import { domId } from '@virtlab/abi/brands';
import { describeXenstore } from './conformance.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';

for (const capacitySize of [64 * 1024, 7]) {
  describeXenstore({
    name: `memory, ${capacitySize} bytes under way`,
    capabilities: { guests: true },
    create: () => {
      const xenstore = createXenstore();
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
