import type { QuotaName, StoreObserver } from './store-observer.ts';

/**
 * The one place where quotas refuse: says who was refused what to the observer, and refuses everybody where a quota
 * was declared full for a test.
 */
export class QuotaGate {
  readonly #observer: StoreObserver;
  readonly #full: ReadonlySet<string>;

  /** `full` may change while running. */
  constructor(observer: StoreObserver, full: ReadonlySet<string>) {
    this.#observer = observer;
    this.#full = full;
  }

  /**
   * Whether the request is refused: because it `exceeds`, or because the quota counts as used up. `used` and `limit`
   * are what to tell, `subject` is a path or an operation.
   */
  refuses(
    quota: QuotaName,
    domid: number,
    subject: string,
    exceeds: boolean,
    used: number,
    limit: number,
  ): boolean {
    if (!exceeds && (this.#full.size === 0 || !this.#full.has(quota))) return false;
    this.#observer.quotaFired(quota, domid, subject, used, limit);
    return true;
  }
}
