/** A worker that changes a configuration page as fast as it can: all bytes of one generation are equal. */
import { workerData } from 'node:worker_threads';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceConfigPage } from '../device-config-page.ts';

export interface ConfigWriterData {
  readonly page: SharedArrayBuffer;
  readonly configSize: number;
  readonly rounds: number;
}

const { page, configSize, rounds } = workerData as ConfigWriterData;
const region = memoryRegion(page);
const writer = new DeviceConfigPage({ region, offset: 0, size: region.size }, configSize);
const config = new Uint8Array(configSize);
for (let round = 1; round <= rounds; round++) writer.showConfig(config.fill(round), true);
