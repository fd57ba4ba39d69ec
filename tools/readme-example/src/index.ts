/** Examples of READMEs, run by the tests of the package that they belong to. */
export { readmeExample } from './extract.ts';
export { type ExampleOptions, type ExampleRun, runReadmeExample } from './run.ts';
export { type ProcessRun, runReadmeExampleAlone } from './run-alone.ts';
export { type SameCode, readmeExampleAndTest } from './same-code.ts';
