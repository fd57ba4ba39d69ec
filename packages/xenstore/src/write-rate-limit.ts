import type { DaemonClock } from './daemon-clock.ts';
import { type DomainRecord, isUnprivilegedDomain } from './domain-table.ts';

/** Fixed-point unit of credit: one write (`WRL_FACTOR` and what follows in xenstored_domain.h). */
const WRITE_COST = 1000;
const RATE_PER_MS = 200;
const DOMAIN_BURST = 10 * WRITE_COST;
const RESERVE_MAX = 1000 * WRITE_COST;
const RESERVE_MIN = -5 * DOMAIN_BURST;
const CREDIT_MAX = 1_000_000_000;

interface Account {
  credit: number;
  /** When credit was last added, ms. */
  updatedAt: number;
}

/**
 * The write-rate limit of the C daemon (`wrl_*`): while somebody has a transaction open, every other write of a guest
 * costs credit. All domains together earn 200 writes a second, share and share alike; what a domain cannot keep, above
 * ten writes, goes to a reserve for all, from which debts are paid and newcomers get their first ten. A domain in debt
 * is not read from. Sockets and domain 0 pay nothing, but domain 0 has its share.
 */
export class WriteRateLimit {
  readonly #clock: DaemonClock;
  readonly #accounts = new Map<number, Account>();
  /** Called when a domain in debt may have paid it. */
  onPaid: (() => void) | undefined;
  #reserve = 0;
  #cancelTimer: (() => void) | undefined;
  #wakeAt = 0;

  constructor(clock: DaemonClock) {
    this.#clock = clock;
  }

  /** A domain is introduced. Idempotent. */
  join({ domid }: DomainRecord): void {
    if (this.#accounts.has(domid)) return;
    const credit = Math.max(0, Math.min(this.#reserve - RESERVE_MIN, DOMAIN_BURST));
    this.#reserve -= credit;
    this.#accounts.set(domid, { credit, updatedAt: this.#now() });
  }

  /** A domain is gone; credit that it has left goes to the reserve, up to one domain's burst. Idempotent. */
  leave({ domid }: DomainRecord): void {
    const account = this.#accounts.get(domid);
    if (account === undefined) return;
    this.#accounts.delete(domid);
    this.#reserve += Math.max(0, Math.min(account.credit, DOMAIN_BURST - this.#reserve));
  }

  /** The domain wrote while somebody else's transaction is open. */
  debit({ domid }: DomainRecord): void {
    const account = this.#accounts.get(domid);
    if (account === undefined || !isUnprivilegedDomain(domid)) return;
    this.#updateAll();
    account.credit -= WRITE_COST;
  }

  /** Whether the domain is in debt; then `onPaid` will be called. */
  isInDebt({ domid }: DomainRecord): boolean {
    const account = this.#accounts.get(domid);
    if (account === undefined || account.credit >= 0) return false;
    this.#updateAll();
    if (account.credit >= 0) return false;
    this.#wakeAfter(Math.max(1, Math.floor((-account.credit * this.#accounts.size) / RATE_PER_MS)));
    return true;
  }

  /** Writes that the domain may make at once, and those in reserve; negative: in debt. For reports. */
  credit({ domid }: DomainRecord): { readonly own: number; readonly reserve: number } {
    this.#updateAll();
    return {
      own: (this.#accounts.get(domid)?.credit ?? 0) / WRITE_COST,
      reserve: this.#reserve / WRITE_COST,
    };
  }

  /** No timer is left. */
  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #updateAll(): void {
    const now = this.#now();
    for (const account of this.#accounts.values()) this.#update(account, now);
  }

  /** `wrl_credit_update`: credit for whole milliseconds, then debts from the reserve, then what is too much to it. */
  #update(account: Account, now: number): void {
    const elapsedMs = Math.max(0, now - account.updatedAt);
    const earned = Math.floor((elapsedMs * RATE_PER_MS) / this.#accounts.size);
    account.credit = Math.min(account.credit + earned, CREDIT_MAX);
    account.updatedAt = now;
    const paid = Math.min(this.#reserve, -account.credit);
    if (paid > 0) {
      this.#reserve -= paid;
      account.credit += paid;
    }
    const surplus = account.credit - DOMAIN_BURST;
    if (surplus <= 0) return;
    account.credit = DOMAIN_BURST;
    this.#reserve += Math.max(0, Math.min(surplus, RESERVE_MAX - this.#reserve));
  }

  #wakeAfter(delayMs: number): void {
    const at = this.#now() + delayMs;
    if (this.#cancelTimer !== undefined && this.#wakeAt <= at) return;
    this.#cancelTimer?.();
    this.#wakeAt = at;
    this.#cancelTimer = this.#clock.after(delayMs, () => {
      this.#cancelTimer = undefined;
      this.onPaid?.();
    });
  }

  #now(): number {
    return Math.floor(this.#clock.now());
  }
}
