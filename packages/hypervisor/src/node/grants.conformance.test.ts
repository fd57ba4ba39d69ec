import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DomId, domId, grantRef } from '@virtlab/abi/brands';
import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { createGrantTable, seedGrant } from '@virtlab/grant-table';
import { type GrantMachine, describeGrants } from '@virtlab/grant-table/conformance';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, vi } from 'vitest';
import { grantTableOf } from '../grant-tables.ts';
import { type ProcessMachine, createProcessMachine } from './process-machine.ts';
import { RemoteMapper } from './testing/remote-mapper.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const MAP_COUNT_MAX = 300;
const RAM_SIZE = 64 * 4096;
const NO_START = { xenstoreFrame: 0, xenstorePort: 0 as const };
const NOBODY = domId(0x7000);

interface MapperProcess {
  readonly domain: DomId;
  readonly remote: RemoteMapper;
}

/**
 * One machine for all tests, because a process takes a while to start: each test has a granter of its own, whose pages are
 * shared memory and whose code is this process, and two mappers that are processes. Those that died are replaced.
 */
class Rig {
  readonly #folder = mkdtempSync(join(tmpdir(), 'virtlab-grants-'));
  readonly #up = new Set<DomId>();
  readonly #machine: ProcessMachine = createProcessMachine({
    entry: new URL('./testing/grant-mapper-domain.ts', import.meta.url),
    onConsole: (domain) => this.#up.add(domain),
  });
  #mappers: MapperProcess[] = [];
  #started = 0;

  async create(version: 1 | 2): Promise<GrantMachine> {
    const { hypervisor } = this.#machine;
    const grantLimits = { frameCount: 2, frameCountMax: 2 };
    const granter = hypervisor.createDomain({ name: 'granter', type: 'pv', ramSize: RAM_SIZE, grantLimits });
    hypervisor.hypercall(granter, 'gnttab_set_version', [version]);
    const view = grantTableOf(hypervisor.resourcesOf(granter)!.memory);
    await this.#fill();
    for (const { domain, remote } of this.#mappers) {
      // A domain that was granted nothing cannot map the granter's pages at all.
      seedGrant(view, grantRef(1), domain, 0);
      await remote.tellAsync({ order: 'connect', domain: granter });
    }
    seedGrant(view, grantRef(1), NOBODY, 0);
    const [mapper, stranger] = this.#mappers.map(({ domain, remote }) => ({
      domain,
      mapper: remote,
      ram: hypervisor.resourcesOf(domain)!.memory.ram,
    }));
    return {
      granter: {
        domain: granter,
        view,
        table: createGrantTable({ domain: granter, view, reservedCount: GNTTAB_NR_RESERVED_ENTRIES }),
      },
      mapper: mapper!,
      stranger: stranger!,
      reservedCount: GNTTAB_NR_RESERVED_ENTRIES,
      mapCountMax: MAP_COUNT_MAX,
      killGranter: () => this.#end(granter),
      killMapper: () => this.#kill(mapper!.domain),
      dispose: () => this.#end(granter),
    };
  }

  async close(): Promise<void> {
    await this.#machine.close();
    for (const { remote } of this.#mappers) remote.close();
    rmSync(this.#folder, { recursive: true });
  }

  async #fill(): Promise<void> {
    const missing = 2 - this.#mappers.length;
    this.#mappers.push(...(await Promise.all(Array.from({ length: missing }, () => this.#start()))));
  }

  async #start(): Promise<MapperProcess> {
    const { hypervisor } = this.#machine;
    this.#started += 1;
    const name = `mapper-${this.#started}`;
    const ramOf = (peer: DomId) => hypervisor.resourcesOf(peer)?.memory.ram;
    const remote = new RemoteMapper(this.#folder, name, MAP_COUNT_MAX, ramOf);
    const domain = hypervisor.createDomain({ name, type: 'pv', ramSize: RAM_SIZE });
    hypervisor.unpauseDomain(domain, { module: '', args: remote.args }, NO_START);
    await until(() => this.#up.has(domain));
    return { domain, remote };
  }

  /** The granter ends, and its mappers have heard of it. */
  async #end(granter: DomId): Promise<void> {
    this.#machine.hypervisor.destroyDomain(granter, 'crash', 'The test is over');
    for (const { remote } of this.#mappers) await remote.tellAsync({ order: 'gone', domain: granter });
  }

  async #kill(domain: DomId): Promise<void> {
    const { hypervisor } = this.#machine;
    process.kill(hypervisor.domains().find((info) => info.domain === domain)!.pid!, 'SIGKILL');
    await until(() => hypervisor.resourcesOf(domain) === undefined);
    this.#mappers.find((each) => each.domain === domain)?.remote.close();
    this.#mappers = this.#mappers.filter((each) => each.domain !== domain);
  }
}

function until(isSo: () => boolean): Promise<void> {
  return vi.waitFor(
    () => {
      if (!isSo()) throw new Error('not yet');
    },
    { timeout: 15_000, interval: 5 },
  );
}

describe.skipIf(!ffi.available)('across processes', () => {
  let rig: Rig;
  beforeAll(() => void (rig = new Rig()));
  afterAll(() => rig.close());
  for (const version of [1, 2] as const) {
    describeGrants({ name: `domain processes, version ${version}`, create: () => rig.create(version) });
  }
});
