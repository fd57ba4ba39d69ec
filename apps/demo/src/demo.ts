import { checkCapture, openDiskImage } from './disk-image.ts';
import { Lab } from './lab.ts';
import { DOMAINS_MAX, DemoError, type DemoOptions } from './options.ts';
import { checkTap } from './tap-interface.ts';
import { type Reporter, SILENT_REPORTER, createTextReporter } from './reporter.ts';
import { type TransportResult, runTransport } from './workload.ts';

const DOM0_MAC = '02:00:00:00:00:01';
const DOM0_IP = '10.0.0.1';

/** What `--json` prints. */
export interface DemoResult {
  readonly dom0BootMs: number;
  readonly transports: readonly TransportResult[];
  readonly warnings: readonly string[];
  readonly totalMs: number;
}

/**
 * Boots the lab, runs the work over each transport, and shuts everything down, also when `signal` aborts. Rejects with
 * `DemoError`, or with the signal's reason.
 */
export async function runDemo(options: DemoOptions, signal: AbortSignal): Promise<DemoResult> {
  if (!(options.domains >= 1 && options.domains <= DOMAINS_MAX)) {
    throw new DemoError('usage', `--domains ${options.domains}: from 1 to ${DOMAINS_MAX}`);
  }
  const report = options.json ? SILENT_REPORTER : createTextReporter(process.stdout);
  const start = performance.now();
  if (options.pcap !== undefined) await checkCapture(options.pcap);
  if (options.tap !== undefined) checkTap(options.tap);
  await using image = await openDiskImage(options);
  const { dom0BootMs, transports, warnings } = await withLab(signal, (lab) =>
    run(lab, options, image, report),
  );
  const result: DemoResult = { dom0BootMs, transports, warnings, totalMs: performance.now() - start };
  report.comparison(transports);
  for (const warning of warnings) report.line(`warning: ${warning}`);
  if (options.keepImage !== undefined)
    report.line(`\nThe disk image is ${options.keepImage} (a FAT filesystem in its first half)`);
  if (options.pcap !== undefined) report.line(`The switch's frames are in ${options.pcap}`);
  report.line(
    `\nEverything was shut down in order; nothing is left. ${(result.totalMs / 1000).toFixed(1)} s in all.`,
  );
  return result;
}

/** The lab ends before this returns, whatever happens in it. */
async function withLab<T>(signal: AbortSignal, use: (lab: Lab) => Promise<T>): Promise<T> {
  await using lab = new Lab();
  const abort = (): void => lab.fail('Interrupted');
  signal.addEventListener('abort', abort, { once: true });
  try {
    signal.throwIfAborted();
    return await use(lab);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

async function run(
  lab: Lab,
  options: DemoOptions,
  image: Awaited<ReturnType<typeof openDiskImage>>,
  report: Reporter,
): Promise<Pick<DemoResult, 'dom0BootMs' | 'transports' | 'warnings'>> {
  const start = performance.now();
  await lab.bootDom0({ ip: DOM0_IP, mac: DOM0_MAC, pcap: options.pcap, tap: options.tap });
  const dom0BootMs = performance.now() - start;
  const pid = lab.machine.hypervisor.domains()[0]?.pid;
  report.line(`hypervisor   this process (${process.pid})`);
  report.line(
    `domain 0     process ${pid}, up after ${dom0BootMs.toFixed(0)} ms: xenstored, toolstack, devices, switch`,
  );
  if (options.tap !== undefined)
    report.line(`TAP          ${options.tap} is on the switch, beside ${DOM0_IP}`);
  const transports: TransportResult[] = [];
  for (const transport of options.transports) {
    transports.push(await runTransport(lab, transport, image, options, report));
  }
  lab.expectEnd([lab.dom0]);
  const leaks = await lab.askDom0('shutdown', {});
  await lab.untilEnded(lab.dom0);
  const left = [...leaks, ...lab.machine.hypervisor.leaks()];
  if (left.length > 0) throw new DemoError('failed', `Left after the shutdown: ${left.join('; ')}`);
  return { dom0BootMs, transports, warnings: lab.warnings };
}
