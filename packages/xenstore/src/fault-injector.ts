import type { FaultPlan } from './fault-plan.ts';
import { QUOTA_NAMES } from './store-observer.ts';

/** What a plan may not say; a plan from a program is checked as one from a command line is. */
function checkPlan(plan: Partial<FaultPlan>): void {
  const { eagain, eagainProbability, eventDelayMs, eventBatch, disconnectAtByte } = plan;
  for (const [name, value] of Object.entries({ eagain, eventDelayMs, eventBatch, disconnectAtByte })) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0))
      throw new RangeError(`${name} must be a whole number, is ${value}`);
  }
  if (eagainProbability !== undefined && !(eagainProbability >= 0 && eagainProbability <= 1))
    throw new RangeError(`eagainProbability must be 0 to 1, is ${eagainProbability}`);
  for (const name of plan.fullQuotas ?? []) {
    if (!QUOTA_NAMES.some((known) => known === name)) throw new RangeError(`Not a quota: ${name}`);
  }
}

/**
 * What goes wrong on purpose now. Asked by the store and the server at the places where it would go wrong by itself;
 * what is random is drawn from a seeded generator, so that the same requests fail again.
 */
export class FaultInjector {
  /** Quotas that count as used up. Live: the store looks at it. */
  readonly fullQuotas: ReadonlySet<string>;
  readonly #fullQuotas = new Set<string>();
  /** Called when the faults are cleared: who waited because of one may go on. */
  onClear: (() => void) | undefined;
  #eagainCount = 0;
  #eagainProbability = 0;
  #eventDelayMs = 0;
  #eventBatch = 0;
  #disconnectAtByte: number | undefined;
  #random: number;

  /** `seed` is any number; its lower 32 bits count. Throws `RangeError` for a value that makes no sense. */
  constructor(plan: FaultPlan = {}, seed: number = 1) {
    this.fullQuotas = this.#fullQuotas;
    this.#random = seed >>> 0;
    this.set(plan);
  }

  /** Milliseconds that events are held back; 0: not. */
  get eventDelayMs(): number {
    return this.#eventDelayMs;
  }

  /** Events that wait for each other; below 2: none. */
  get eventBatch(): number {
    return this.#eventBatch;
  }

  get holdsEvents(): boolean {
    return this.#eventDelayMs > 0 || this.#eventBatch > 1;
  }

  /** Bytes of output after which connections opened from now on are cut. */
  get disconnectAtByte(): number | undefined {
    return this.#disconnectAtByte;
  }

  /** Adds to what is set; what `plan` does not name stays. Throws `RangeError`, and changes nothing then. */
  set(plan: Partial<FaultPlan>): void {
    checkPlan(plan);
    this.#eagainCount = plan.eagain ?? this.#eagainCount;
    this.#eagainProbability = plan.eagainProbability ?? this.#eagainProbability;
    this.#eventDelayMs = plan.eventDelayMs ?? this.#eventDelayMs;
    this.#eventBatch = plan.eventBatch ?? this.#eventBatch;
    this.#disconnectAtByte = plan.disconnectAtByte ?? this.#disconnectAtByte;
    for (const name of plan.fullQuotas ?? []) this.#fullQuotas.add(name);
  }

  /** Nothing goes wrong on purpose any more. Events held back come at their time. */
  clear(): void {
    this.#eagainCount = 0;
    this.#eagainProbability = 0;
    this.#eventDelayMs = 0;
    this.#eventBatch = 0;
    this.#disconnectAtByte = undefined;
    this.#fullQuotas.clear();
    this.onClear?.();
  }

  /** What is set now; counts as they are left. */
  get plan(): FaultPlan {
    return {
      ...(this.#eagainCount > 0 && { eagain: this.#eagainCount }),
      ...(this.#eagainProbability > 0 && { eagainProbability: this.#eagainProbability }),
      ...(this.#eventDelayMs > 0 && { eventDelayMs: this.#eventDelayMs }),
      ...(this.#eventBatch > 1 && { eventBatch: this.#eventBatch }),
      ...(this.#disconnectAtByte !== undefined && { disconnectAtByte: this.#disconnectAtByte }),
      ...(this.#fullQuotas.size > 0 && { fullQuotas: [...this.#fullQuotas] }),
    };
  }

  /** Whether the transaction that could commit now is to fail instead. */
  takeConflict(): boolean {
    if (this.#eagainCount > 0) {
      this.#eagainCount -= 1;
      return true;
    }
    return this.#eagainProbability > 0 && this.#draw() < this.#eagainProbability;
  }

  /** In [0, 1). mulberry32: one word of state, even enough for faults. */
  #draw(): number {
    this.#random = (this.#random + 0x6d2b79f5) >>> 0;
    let word = this.#random;
    word = Math.imul(word ^ (word >>> 15), word | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  }
}
