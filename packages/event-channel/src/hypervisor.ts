export { inProcessHypercalls } from './in-process-hypercalls.ts';
export { createPortTables, type ClosedPort, type PortTables, type PortTablesOptions } from './port-tables.ts';
