export {
  openRawFileBackend,
  type RawFileBackend,
  type RawFileBackendOptions,
  type RawFileStatistics,
} from './raw-file-backend.ts';
export { openZoneFile } from './zone-file.ts';
