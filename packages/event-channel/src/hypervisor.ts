export { inProcessHypercalls } from './in-process-hypercalls.ts';
export { createPortTables } from './port-tables.ts';
export type { ClosedPort, PortTables, PortTablesOptions } from './port-tables-contract.ts';
