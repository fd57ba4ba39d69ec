/** The groups of benchmarks, in the order in which they run. */
export const GROUP_NAMES = [
  'ring',
  'ring-packed',
  'ring-processes',
  'notify',
  'events',
  'grants',
  'trap',
  'control',
  'xenstore',
  'blk',
  'blk-features',
  'net',
  'net-features',
  'vhost-user-blk',
  'vhost-user-guest',
  'vhost-user-net',
] as const;

export type GroupName = (typeof GROUP_NAMES)[number];

export function isGroupName(name: string): name is GroupName {
  return (GROUP_NAMES as readonly string[]).includes(name);
}
