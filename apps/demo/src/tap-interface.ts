import { LinuxError, TapDevice } from '@virtlab/linux';
import { DemoError } from './options.ts';

/** Throws `DemoError` when domain 0 could not open the interface; before anything boots. */
export function checkTap(name: string): void {
  try {
    TapDevice.open({ name }).close();
  } catch (error) {
    if (error instanceof RangeError)
      throw new DemoError('usage', `--tap: ${error.message}`, { cause: error });
    if (!(error instanceof LinuxError)) throw error;
    throw new DemoError('environment', `--tap ${name}: ${error.message}`, { cause: error });
  }
}
