import { XENSTORE_PAYLOAD_MAX } from '@virtlab/abi/xs-wire';
import type { DaemonStatistics } from './daemon-statistics.ts';
import type { FaultInjector } from './fault-injector.ts';
import { parseFault } from './parse-fault.ts';
import { ACK, type ControlExtension, type Outcome, type Request } from './request.ts';

export interface ControlExtensionParts {
  readonly statistics: () => DaemonStatistics;
  readonly faults: FaultInjector;
  /** Writes the tree to a file. Without it CONTROL `dump` is EINVAL. */
  readonly dump?: (file: string | undefined) => Outcome | Promise<Outcome>;
}

/** Snapshots of the statistics that can be read on at the same time; the oldest makes room. */
const SNAPSHOT_COUNT = 4;
const OFFSET_MAX_DIGITS = 10;

/**
 * CONTROL commands of this daemon alone:
 *
 * - `statistics|` and `statistics|<generation>|<offset>|`: the statistics as JSON in ASCII, in parts. The answer is
 *   `<generation>|<part>|`; the next part begins at the offset plus its length, and an empty one ends it. EAGAIN when
 *   that generation is no longer there.
 * - `fault|<fault>|…`: see `parseFault`; `fault|clear|` ends all; `fault|` answers what is set, as JSON.
 * - `dump|[<file>|]`: writes the tree to the file, or to the one that the daemon was started with.
 */
export function controlExtensions(parts: ControlExtensionParts): ReadonlyMap<string, ControlExtension> {
  const snapshots = new StatisticsSnapshots(parts.statistics);
  return new Map<string, ControlExtension>([
    ['statistics', (request, parameters) => snapshots.answer(request, parameters)],
    ['fault', (request, parameters) => fault(request, parameters, parts.faults)],
    ['dump', (request, parameters) => dump(request, parameters, parts.dump)],
  ]);
}

class StatisticsSnapshots {
  readonly #statistics: () => DaemonStatistics;
  readonly #texts = new Map<number, string>();
  #generation = 0;

  constructor(statistics: () => DaemonStatistics) {
    this.#statistics = statistics;
  }

  answer(request: Request, parameters: readonly string[]): Outcome {
    if (parameters.length === 0) return this.#part(request, this.#take(), 0);
    const [generation, offset] = parameters.map(decimal);
    if (parameters.length !== 2 || generation === undefined || offset === undefined) return 'EINVAL';
    return this.#part(request, generation, offset);
  }

  #take(): number {
    this.#generation += 1;
    if (this.#texts.size >= SNAPSHOT_COUNT) {
      const [oldest] = this.#texts.keys();
      this.#texts.delete(oldest!);
    }
    this.#texts.set(this.#generation, asciiJson(this.#statistics()));
    return this.#generation;
  }

  #part(request: Request, generation: number, offset: number): Outcome {
    const text = this.#texts.get(generation);
    if (text === undefined) return 'EAGAIN';
    const head = `${generation}\0`;
    const part = text.slice(offset, offset + XENSTORE_PAYLOAD_MAX - head.length - 1);
    if (part === '') this.#texts.delete(generation);
    request.reply(`${head}${part}\0`);
    return undefined;
  }
}

function fault(request: Request, parameters: readonly string[], faults: FaultInjector): Outcome {
  if (parameters.length === 0) {
    request.reply(`${asciiJson(faults.plan)}\0`);
    return undefined;
  }
  if (parameters.length === 1 && parameters[0] === 'clear') {
    faults.clear();
  } else {
    try {
      for (const plan of parameters.map((text) => parseFault(text))) faults.set(plan);
    } catch {
      return 'EINVAL';
    }
  }
  request.reply(ACK);
  return undefined;
}

async function dump(
  request: Request,
  parameters: readonly string[],
  write: ControlExtensionParts['dump'],
): Promise<Outcome> {
  if (parameters.length > 1 || write === undefined) return 'EINVAL';
  const failure = await write(parameters[0]);
  if (failure === undefined) request.reply(ACK);
  return failure;
}

/** Without characters that are more than a byte on the wire. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\u0080-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function decimal(text: string): number | undefined {
  return /^\d+$/.test(text) && text.length <= OFFSET_MAX_DIGITS ? Number(text) : undefined;
}
