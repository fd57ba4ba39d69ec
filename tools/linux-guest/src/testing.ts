export { TemporaryDirectory } from './testing/temporary-directory.ts';
