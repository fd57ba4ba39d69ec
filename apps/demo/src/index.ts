export { runDemo, type DemoResult } from './demo.ts';
export { DEMO_DEFAULTS, DOMAINS_MAX, DemoError, type DemoOptions } from './options.ts';
export type { BlockFigure, NetFigure, TransportResult } from './workload.ts';
export type { TransportName } from './messages.ts';
