import type { Outcome, Request } from './request.ts';

/**
 * CONTROL `live-update`. There is no program to be replaced by, so every file is one that is not accessible, which
 * the daemon finds out first; the other steps then answer as they do without a session (`do_control_lu`).
 */
export function liveUpdate(request: Request, parameters: readonly string[]): Outcome {
  const text = refusal(request, parameters);
  if (text === undefined) return 'EINVAL';
  request.reply(`${text}\0`);
  return undefined;
}

function refusal(request: Request, parameters: readonly string[]): string | undefined {
  const [step, ...others] = parameters;
  switch (step) {
    case '-a':
      return others.length === 0 ? 'No live-update session active.' : undefined;
    case '-c':
      return others.length === 1 ? 'Not in live-update session.' : undefined;
    case '-s':
      return areStartOptions(others, request.store.profile.quotasPerDomain)
        ? 'Not in live-update session.'
        : undefined;
    case '-f':
      return others.length === 1 ? 'File not accessible.' : undefined;
    default:
      return undefined;
  }
}

/** `-F`, `-t <seconds>` and, where the stream has versions, `-v <version>`. */
function areStartOptions(options: readonly string[], hasVersion: boolean): boolean {
  for (let i = 0; i < options.length; i++) {
    const option = options[i];
    if (option === '-F') continue;
    const takesValue = option === '-t' || (hasVersion && option === '-v');
    if (!takesValue || i === options.length - 1) return false;
    i += 1;
  }
  return true;
}
