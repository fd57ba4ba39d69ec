export { GrantError, type GrantMapper, type GrantTable, type GrantTableView } from './contract.ts';
export { isGrantedTo, releasePinsOf, seedGrant } from './entries.ts';
export { type GrantMapperOptions, type GrantPeers, createGrantMapper } from './grant-mapper.ts';
export { type GrantTableOptions, createGrantTable } from './grant-table.ts';
