export {
  DOORBELL_POLICIES,
  createSimulation,
  type DoorbellPolicy,
  type RunOptions,
  type Simulation,
  type SimulationOptions,
  type TraceEntry,
} from './simulation.ts';
