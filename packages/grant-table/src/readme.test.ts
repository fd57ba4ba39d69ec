import { domId, grantHandle } from '@virtlab/abi/brands';
import { createGrantMapper, createGrantTable } from '@virtlab/grant-table';
import { memoryRegion } from '@virtlab/guest-memory';
import { readmeExampleAndTest } from '@virtlab/readme-example';
import { expect, it } from 'vitest';

it('README: the usage example is the code of this test', () => {
  // usage
  const [frontend, backend] = [domId(5), domId(0)];
  const view = {
    table: memoryRegion(new SharedArrayBuffer(4096)),
    tableOffset: 0,
    frameCount: 1,
    ram: memoryRegion(new SharedArrayBuffer(1 << 20)),
  };

  // The granter lends frame 7 of its RAM.
  const grants = createGrantTable({ domain: frontend, view, reservedCount: 8 });
  const ref = grants.grantAccess(backend, 7, false);
  if (ref === -1) throw new Error('the table is full');

  // The mapper reaches it, and nothing else.
  const mapper = createGrantMapper({
    domain: backend,
    mapCountMax: 1024,
    peers: { table: (domain) => (domain === frontend ? view : undefined) },
  });
  const handle = mapper.map(frontend, ref, true);
  if (handle < 0) throw new Error(`GNTST ${handle}`);
  mapper.ram(frontend)!.u8[mapper.frame * 4096] = 42;

  const early = grants.endAccess(ref); // false: it is in use
  mapper.unmap(grantHandle(handle));
  const late = grants.endAccess(ref); // true
  // end of usage

  expect({ early, late, byte: view.ram.u8[7 * 4096], live: grants.live() }).toEqual({
    early: false,
    late: true,
    byte: 42,
    live: [],
  });
  const { readme, test } = readmeExampleAndTest(new URL('../README.md', import.meta.url), import.meta.url);
  expect(readme).toBe(test);
});
