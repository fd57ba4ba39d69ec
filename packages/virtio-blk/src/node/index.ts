export { openRawFileBackend, type RawFileBackend, type RawFileBackendOptions } from './raw-file-backend.ts';
