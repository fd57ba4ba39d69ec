export interface Step {
  readonly atMs: number;
  /** Orders steps of the same time. */
  readonly tieBreak: number;
  /** Orders steps of the same time and tie-break. */
  readonly order: number;
  readonly context: string;
  readonly what: 'turn' | 'alarm' | 'arrival';
  readonly run: () => void;
  cancelled: boolean;
}

function before(a: Step, b: Step): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  if (a.tieBreak !== b.tieBreak) return a.tieBreak < b.tieBreak;
  return a.order < b.order;
}

/** A binary heap of steps by (time, tie-break, order of arrival). */
export class StepQueue {
  readonly #heap: Step[] = [];
  #order = 0;

  push(atMs: number, tieBreak: number, context: string, what: Step['what'], run: () => void): Step {
    const step = { atMs, tieBreak, order: this.#order++, context, what, run, cancelled: false };
    const heap = this.#heap;
    let at = heap.length;
    heap.push(step);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(step, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = step;
    return step;
  }

  /** The first step that is not cancelled. */
  peek(): Step | undefined {
    while (this.#heap[0]?.cancelled === true) this.#take();
    return this.#heap[0];
  }

  pop(): Step | undefined {
    return this.peek() === undefined ? undefined : this.#take();
  }

  #take(): Step {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}
