import { readFileSync } from 'node:fs';
import { DEVICES } from './exercises.ts';
import { type Cell, type CellResult, DOORBELLS, PROCESS_TRANSPORTS, RINGS, TRANSPORTS } from './grid.ts';

/** Results of cells, and the page that shows them. */
export class GridReport {
  readonly #results = new Map<string, CellResult>();

  add(placement: Placement, cell: Cell, result: CellResult): void {
    this.#results.set(key(placement, cell), result);
  }

  /** docs/matrix.md as these results make it. */
  render(): string {
    const sections = [
      HEAD,
      ...TRANSPORTS.map((transport) => this.#table(`## ${transport}, in one process`, 'thread', transport)),
      ...PROCESS_TRANSPORTS.map((transport) =>
        this.#table(
          `## ${transport}, ${transport === 'vhost-user' ? 'in two processes' : 'domains as processes'}`,
          'processes',
          transport,
        ),
      ),
    ];
    return `${sections.join('\n\n')}\n`;
  }

  #table(title: string, placement: Placement, transport: Cell['transport']): string {
    const columns = DEVICES.flatMap((device) => DOORBELLS.map((doorbells) => ({ device, doorbells })));
    const head = ['ring', ...columns.map(({ device, doorbells }) => `${device} ${doorbells}`)];
    const rows = RINGS.map((ring) => [
      ring.name,
      ...columns.map((column) => symbol(this.#results.get(key(placement, { transport, ring, ...column })))),
    ]);
    const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
    return [title, '', line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
  }
}

export type Placement = 'thread' | 'processes';

function key(placement: Placement, { transport, ring, device, doorbells }: Cell): string {
  return [placement, transport, ring.name, device, doorbells].join('/');
}

function symbol(result: CellResult | undefined): string {
  return result ?? 'not run';
}

const HEAD = `# The grid

Written by \`npm run matrix\`; a test runs every cell again and holds this page against what it found. A cell is one driver and one device at
work, byte by byte, and leaves nothing: no grant, mapping, port, watch, page, descriptor or handler. \`ok\`: it does. \`not offered\`: the
transport does not offer that ring. The in-memory transport is two halves of one object and has no form across processes.

Doorbells: _calm_ ones arrive at once; _coalescing_ ones wait for others and arrive as one; _late_ ones take up to 20 virtual
milliseconds, each its own time (2 real ones between processes); _spurious_ ones arrive once more for nothing.

vhost-user has no virtual clock: its sockets and doorbells are descriptors, which only the kernel makes readable. In one process driver and
device are two loops of one thread at the two ends of a socket pair; in two, the device's process listens at a path. Both sides' doorbells
are as the table says, within 2 real milliseconds, and unless they are calm neither side looks for work that no doorbell told it of.`;

/** Both sides without the padding that the formatter gives to tables. */
export function samePage(one: string, other: string): boolean {
  return bare(one) === bare(other);
}

function bare(page: string): string {
  return page
    .replaceAll(/ *\| */g, '|')
    .replaceAll(/-{3,}/g, '---')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

export const PAGE: URL = new URL('../../../docs/matrix.md', import.meta.url);

export function readPage(): string {
  return readFileSync(PAGE, 'utf8');
}
