import { atoi } from './c-number.ts';
import { parseDomid } from './domain-argument.ts';
import type { DomainRecord } from './domain-table.ts';
import type { XenstoreQuotas } from './profile.ts';
import { hardQuotas, softQuotas } from './quota-names.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import { nulStrings } from './wire.ts';

const SOFT_PREFIX = 'soft-';
/** `Q_VAL_DISABLED`: what a quota that does not exist has. */
const QUOTA_DISABLED = 0xffff_ffff;

/** XS_GET_FEATURE: one's own, which everybody may ask, or those of a domain. */
export function getFeature(request: Request): Outcome {
  const [domidText, ...excess] = nulStrings(request.payload);
  let { features } = request.connection.domain;
  if (domidText !== undefined) {
    if (!request.connection.privileged) return 'EACCES';
    if (excess.length > 0) return 'EINVAL';
    const domain = existingDomain(request, domidText);
    if (typeof domain === 'string') return domain;
    features = domain.features;
  }
  request.reply(`${features}\0`);
  return undefined;
}

/** XS_SET_FEATURE: only before the domain is introduced, and only what the daemon has. */
export function setFeature(request: Request): Outcome {
  const [domidText, featuresText, ...excess] = nulStrings(request.payload);
  if (domidText === undefined || featuresText === undefined || excess.length > 0) return 'EINVAL';
  const domain = existingDomain(request, domidText);
  if (typeof domain === 'string') return domain;
  const features = atoi(featuresText) >>> 0;
  if (domain.introduced) return 'EBUSY';
  if ((features & ~request.store.profile.serverFeatures) !== 0) return 'EINVAL';
  domain.features = features;
  request.reply(ACK);
  return undefined;
}

/** XS_GET_QUOTA: the names of all, the common value of one, or a domain's. */
export function getQuota(request: Request): Outcome {
  const strings = nulStrings(request.payload);
  const { profile, quotas } = request.store;
  if (strings.length > 2) return 'EINVAL';
  if (strings.length === 0) {
    const soft = new Set(softQuotas(profile).map(({ name }) => name));
    const names = hardQuotas(profile).flatMap(({ name }) =>
      soft.has(name) ? [name, `${SOFT_PREFIX}${name}`] : [name],
    );
    request.reply(`${names.join(' ')}\0`);
    return undefined;
  }
  const domain = strings.length === 2 ? existingDomain(request, strings[0]!) : undefined;
  if (typeof domain === 'string') return domain;
  const key = quotaKey(request, strings.at(-1)!);
  if (key === undefined) return 'EINVAL';
  request.reply(`${(domain?.quotas ?? quotas)[key] >>> 0}\0`);
  return undefined;
}

/** XS_SET_QUOTA: the common value, which is that of domains heard of later, or a domain's. 0: no limit. */
export function setQuota(request: Request): Outcome {
  const strings = nulStrings(request.payload);
  if (strings.length < 2 || strings.length > 3) return 'EINVAL';
  const domain = strings.length === 3 ? existingDomain(request, strings[0]!) : undefined;
  if (typeof domain === 'string') return domain;
  const [name, text] = strings.slice(-2);
  const key = quotaKey(request, name!);
  const value = atoi(text!) >>> 0;
  if (key === undefined || value === QUOTA_DISABLED) return 'EINVAL';
  (domain?.quotas ?? request.store.quotas)[key] = value;
  request.reply(ACK);
  return undefined;
}

/** The record of a domain that the hypervisor knows, made if need be. */
function existingDomain(request: Request, text: string): DomainRecord | 'EINVAL' | 'ENOENT' {
  const domid = parseDomid(request, text);
  if (domid === undefined) return 'EINVAL';
  return request.store.domains.existing(domid) ?? 'ENOENT';
}

function quotaKey(request: Request, name: string): keyof XenstoreQuotas | undefined {
  const { profile } = request.store;
  const isSoft = name.startsWith(SOFT_PREFIX);
  const bare = isSoft ? name.slice(SOFT_PREFIX.length) : name;
  return (isSoft ? softQuotas : hardQuotas)(profile).find((entry) => entry.name === bare)?.key;
}
