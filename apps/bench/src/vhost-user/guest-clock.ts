import { type LinuxGuest, guestAvailability } from '@virtlab/linux-guest';

/** The guest's monotonic clock as its kernel prints it, read without starting a program. */
const NOW = `now() {
  { read -r t; read -r t; read -r t; } </proc/timer_list
  t=\${t#now at }; t=\${t% nsecs}
}`;
const LIMIT = { timeoutMs: 60_000 };

/** What this machine lacks for a guest, if anything. */
export function guestMissing(): string | undefined {
  const found = guestAvailability();
  return found.status === 'missing' ? found.reason : undefined;
}

/** Runs a script in the guest; nanoseconds that it took, by the guest's clock. Rejects when it fails. */
export async function guestNs(guest: LinuxGuest, script: string): Promise<number> {
  const output = await guest.output(
    `${NOW}\nset -e\nnow; begin=$t\n${script}\nnow\necho $((t - begin))`,
    LIMIT,
  );
  const ns = Number(output.split('\n').at(-1));
  if (!(ns > 0)) throw new Error(`The guest took ${ns} ns: ${output}`);
  return ns;
}
