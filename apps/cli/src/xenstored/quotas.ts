import type { XenstoreProfile, XenstoreQuotas } from '@virtlab/xenstore';
import { StartError } from '../start-error.ts';

/** Names that are Xen's own; the others are those of `XenstoreQuotas` with hyphens. */
const XEN_NAMES: Readonly<Record<string, string>> = {
  memorySize: 'memory',
  softMemorySize: 'soft-memory',
  pathSize: 'path-max',
};

/** What `--quota` can name, as CONTROL `quota` has it, with the key in `XenstoreQuotas`. */
export function quotaNames(profile: XenstoreProfile): ReadonlyMap<string, keyof XenstoreQuotas> {
  const keys = Object.keys(profile.quotas) as (keyof XenstoreQuotas)[];
  return new Map(
    keys.map((key) => [
      XEN_NAMES[key] ?? key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
      key,
    ]),
  );
}

/** Settings such as `nodes=50`; the last of the same name counts. Throws `StartError` for what is none. */
export function parseQuotas(texts: readonly string[], profile: XenstoreProfile): Partial<XenstoreQuotas> {
  const names = quotaNames(profile);
  const quotas: Partial<XenstoreQuotas> = {};
  for (const text of texts) {
    const equals = text.indexOf('=');
    const [name, value] = [text.slice(0, equals), text.slice(equals + 1)];
    const key = names.get(name);
    if (equals < 0) throw new StartError('usage', `--quota ${text}: it is not name=value`);
    if (key === undefined) {
      throw new StartError(
        'usage',
        `--quota ${text}: no such quota; there are ${[...names.keys()].join(', ')}`,
      );
    }
    if (!/^\d{1,10}$/.test(value)) throw new StartError('usage', `--quota ${text}: not a whole number`);
    quotas[key] = Number(value);
  }
  return quotas;
}
