import { atoi } from './c-number.ts';
import { type QuotaEntry, hardQuotas, softQuotas } from './quota-names.ts';
import { ACK, type Outcome, type Request } from './request.ts';

/** CONTROL `quota`: all, one to be set, what a domain uses, or (C HEAD) the highest values seen. */
export function quota(request: Request, parameters: readonly string[]): Outcome {
  const { profile } = request.store;
  const [first, ...others] = parameters;
  if (first === undefined) return showQuotas(request, hardQuotas(profile));
  if (first === 'set') return setQuota(request, hardQuotas(profile), others);
  if (first === 'max' && profile.quotasPerDomain) return showHighest(request, others);
  return others.length > 0 ? 'EINVAL' : showUse(request, atoi(first) >>> 0);
}

/** CONTROL `quota-soft`. */
export function softQuota(request: Request, parameters: readonly string[]): Outcome {
  const settings = softQuotas(request.store.profile);
  const [first, ...others] = parameters;
  if (first === undefined) return showQuotas(request, settings);
  return first === 'set' ? setQuota(request, settings, others) : 'EINVAL';
}

function showQuotas(request: Request, settings: readonly QuotaEntry[]): Outcome {
  const lines = settings.map(({ name, key, description }) => {
    return `${name.padEnd(17)}: ${String(request.store.quotas[key] | 0).padStart(8)} ${description}\n`;
  });
  request.reply(`Quota settings:\n${lines.join('')}\0`);
  return undefined;
}

function setQuota(request: Request, settings: readonly QuotaEntry[], parameters: readonly string[]): Outcome {
  const [name, text] = parameters;
  if (name === undefined || text === undefined || parameters.length > 2) return 'EINVAL';
  const value = atoi(text);
  const setting = settings.find((candidate) => candidate.name === name);
  if (value < 1 || setting === undefined) return 'EINVAL';
  request.store.quotas[setting.key] = value;
  request.reply(ACK);
  return undefined;
}

/** Clients on sockets belong to no domain in 4.17: what they hold open is nobody's. */
function showUse(request: Request, domid: number): Outcome {
  const { profile } = request.store;
  const domain = request.store.domain(domid);
  if (domain === undefined) return 'ENOENT';
  const counts = domid !== 0 || profile.socketsCount;
  const used: Readonly<Record<string, number>> = {
    nodes: domain.nodeCount,
    watches: counts ? domain.watchCount : 0,
    transactions: counts ? domain.transactionCount : 0,
    outstanding: counts ? domain.outstandingCount : 0,
    memory: domain.memorySize,
  };
  const lines = profile.quotasPerDomain
    ? hardQuotas(profile).map(({ name, item }) => {
        const highest = String(domain.highWater.get(item)).padStart(8);
        return `${name.padEnd(17)}: ${String(used[name] ?? 0).padStart(8)} (max ${highest})\n`;
      })
    : Object.entries(used).map(([name, count]) => `${name.padEnd(16)}: ${String(count).padStart(8)}\n`);
  request.reply(`Domain ${domid}:\n${lines.join('')}\0`);
  return undefined;
}

/** `quota max`, and `quota max -r`, which shows them after they were reset. */
function showHighest(request: Request, parameters: readonly string[]): Outcome {
  const { store } = request;
  if (parameters.length > 1 || (parameters.length === 1 && parameters[0] !== '-r')) return 'EINVAL';
  if (parameters.length === 1) store.domains.resetHighWater();
  const lines = hardQuotas(store.profile).map(
    ({ name, item }) => `${name.padEnd(17)}: ${String(store.domains.highWater.get(item)).padStart(8)}\n`,
  );
  request.reply(`Max. seen accounting values:\n${lines.join('')}\0`);
  return undefined;
}
