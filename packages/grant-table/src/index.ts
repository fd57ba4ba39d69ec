export {
  GrantError,
  type CopyingGrantMapper,
  type DeferralStatistics,
  type GrantControlPlaces,
  type GrantMapper,
  type GrantTable,
  type GrantTableView,
  type GrantVersion,
  type VersionedGrantTable,
} from './contract.ts';
export { grantVersionOf, maptrackFramesMax, placeGrantControl } from './control-words.ts';
export { GrantCopyList } from './grant-copy-list.ts';
export { type GrantMapperOptions, type GrantPeers, createGrantMapper } from './grant-mapper.ts';
export { type GrantTableOptions, createGrantTable } from './grant-table.ts';
export { isGrantedTo, isPassedOn, releasePinsOf, seedGrant } from './held-entries.ts';
export {
  type GrantLimits,
  GrantTableControl,
  type SetVersionCode,
  defaultGrantLimits,
} from './table-control.ts';
export { type DeferredReclaimOptions, type ReclaimTimer, keepReclaiming } from './deferred-reclaim.ts';
export {
  PagePool,
  type PagePoolOptions,
  type PagePoolStatistics,
  type PageSource,
  type SinglePages,
  pageSource,
} from './page-pool.ts';
export {
  PersistentGrants,
  type PersistentGrantsOptions,
  type PersistentGrantsStatistics,
} from './persistent-grants.ts';
export {
  type GrantKind,
  type GrantLife,
  type GrantReport,
  type MappingLife,
  type Refusal,
  formatGrantReport,
} from './grant-report.ts';
export { GrantTracer, type GrantTracerOptions } from './grant-tracer.ts';
