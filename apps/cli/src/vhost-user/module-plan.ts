import { resolve } from 'node:path';
import { StartError } from '../start-error.ts';
import type { ModulePlan } from './daemon-plan.ts';
import { statPath } from './stat-path.ts';

/** Throws `StartError` for what is no file. */
export function modulePlan(file: string | undefined): ModulePlan {
  if (file === undefined) throw new StartError('usage', 'give the module that makes the device');
  const stats = statPath('the module', file);
  if (stats === undefined) throw new StartError('usage', `${file}: there is no such file`);
  if (!stats.isFile()) throw new StartError('usage', `${file} is no file`);
  return { kind: 'module', file: resolve(file) };
}
