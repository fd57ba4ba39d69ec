import { once } from 'node:events';
import type { NetworkNamespace } from '@virtlab/linux/testing';

export interface IperfResult {
  readonly gbitPerSecond: number;
  /** UDP: of the datagrams sent. */
  readonly lostPercent: number;
}

interface IperfReport {
  readonly error?: string;
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number };
    readonly sum?: { readonly bits_per_second: number; readonly lost_percent: number };
  };
}

const PORT = '5201';

/** One run of iperf3 from a client to a server in another namespace; `args` are the client's. */
export async function iperf(
  server: NetworkNamespace,
  client: NetworkNamespace,
  address: string,
  args: readonly string[],
): Promise<IperfResult> {
  const listener = server.spawn('iperf3', ['-s', '-1', '-p', PORT, '--forceflush']);
  const ended = once(listener, 'close');
  try {
    for await (const text of listener.stdout!) if (String(text).includes('listening')) break;
    const { stdout, stderr } = await client.run('iperf3', [
      '-c',
      address,
      '-p',
      PORT,
      '-J',
      '-t',
      '1',
      ...args,
    ]);
    const report = JSON.parse(stdout) as IperfReport;
    if (report.error !== undefined) throw new Error(`iperf3 ${args.join(' ')}: ${report.error} ${stderr}`);
    const { sum, sum_received: received } = report.end;
    const bits = received?.bits_per_second ?? sum?.bits_per_second ?? 0;
    return { gbitPerSecond: bits / 1e9, lostPercent: sum?.lost_percent ?? 0 };
  } finally {
    listener.kill();
    await ended;
  }
}
