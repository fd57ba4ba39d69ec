import { controlCommands } from './control-commands.ts';
import type { ControlState, Outcome, Request } from './request.ts';
import { nulStrings } from './wire.ts';

/** What CONTROL remembers when a daemon starts: as the C daemon's `trace_flags`. */
export function newControlState(): ControlState {
  return { logSwitches: new Set(['obj', 'io']) };
}

/** XS_CONTROL (xenstore.txt, "Administrative xenstore requests"; xenstore-control(8) for the commands). */
export function control(request: Request): Outcome | Promise<Outcome> {
  const [name, ...parameters] = nulStrings(request.payload);
  if (name === undefined) return 'EINVAL';
  const command = controlCommands(request.store.profile).get(name);
  if (command !== undefined) return command.run(request, parameters.slice(0, command.parameterCountMax));
  const extension = request.control.extensions?.get(name);
  return extension === undefined ? 'EINVAL' : extension(request, parameters);
}
