import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import pc from 'picocolors';
import type { DevicesAnswer, PingAnswer } from './messages.ts';
import type { BlockFigure, NetFigure, TransportResult } from './workload.ts';

/** Where the demo says what it does. */
export interface Reporter {
  heading(text: string): void;
  line(text: string): void;
  guest(
    domain: number,
    boot: { buildMs: number; startMs: number; connectMs: number },
    answer: DevicesAnswer,
  ): void;
  tree(lines: readonly string[]): void;
  withProgress<T>(label: string, run: (onProgress: (fraction: number) => void) => Promise<T>): Promise<T>;
  block(label: string, figure: BlockFigure): void;
  net(figure: NetFigure, ping: PingAnswer): void;
  comparison(results: readonly TransportResult[]): void;
}

export const SILENT_REPORTER: Reporter = {
  heading: () => {},
  line: () => {},
  guest: () => {},
  tree: () => {},
  withProgress: (_label, run) => run(() => {}),
  block: () => {},
  net: () => {},
  comparison: () => {},
};

/** Text on a terminal or in a log; the progress bar only on a terminal. */
export function createTextReporter(out: NodeJS.WriteStream): Reporter {
  const line = (text: string): void => void out.write(`${text}\n`);
  return {
    line,
    heading: (text) => line(`\n${pc.bold(text)}`),
    guest: (domain, boot, answer) => {
      const times = `built in ${boot.buildMs.toFixed(0)} ms, up after ${boot.startMs.toFixed(0)} ms, devices ready in ${boot.connectMs.toFixed(0)} ms`;
      const traps = answer.trapCount > 0 ? `, ${answer.trapCount} trapped accesses` : '';
      line(`domain ${domain}     ${times}${traps}`);
      for (const { name, detail, features } of answer.devices) {
        line(
          `             ${pc.cyan(name)}${detail === '' ? '' : ` ${detail}`} ${pc.dim(features.map(shortName).join(' '))}`,
        );
      }
    },
    tree: (lines) => {
      line('xenstore');
      for (const each of lines) line(pc.dim(`             ${each}`));
    },
    withProgress: async (label, run) => {
      if (!out.isTTY) return await run(() => {});
      const bar = new SingleBar({
        format: `${label} {bar} {percentage}%`,
        stream: out,
        hideCursor: true,
        clearOnComplete: true,
      });
      bar.start(100, 0);
      try {
        return await run((fraction) => bar.update(Math.round(fraction * 100)));
      } finally {
        bar.stop();
      }
    },
    block: (label, figure) =>
      line(
        `${label.padEnd(34)} ${perSecond(figure.iops).padStart(9)}  ${figure.mbPerSecond.toFixed(0).padStart(5)} MB/s  median ${us(
          figure.latencyMedian,
        )}  p99 ${us(figure.latencyP99)}  ${figure.kicksPerOperation.toFixed(3)} kicks ${figure.callsPerOperation.toFixed(
          3,
        )} calls/op  ${figure.verified} verified`,
      ),
    net: (figure, ping) =>
      line(
        `${figure.between.padEnd(16)} echo ${ping.received}/${ping.sent} median ${us(figure.rttMedian)}; UDP ${perSecond(
          figure.datagramsPerSecond,
        )} datagrams, ${figure.mbPerSecond.toFixed(0)} MB/s, ${figure.lost} lost, ${figure.kicksPerDatagram.toFixed(
          3,
        )} kicks ${figure.callsPerDatagram.toFixed(3)} calls each`,
      ),
    comparison: (results) => line(`\n${comparisonTable(results)}`),
  };
}

/** Both transports side by side. */
function comparisonTable(results: readonly TransportResult[]): string {
  const table = new Table({
    head: ['', ...results.map((each) => `virtio_${each.transport}`)],
    style: { head: [], border: [] },
  });
  const row = (name: string, pick: (result: TransportResult) => string): void => {
    table.push([name, ...results.map(pick)]);
  };
  row('devices ready, first guest', (each) => `${each.bootMs[0]?.connectMs.toFixed(0)} ms`);
  for (const [index, { depth, kind }] of (results[0]?.block ?? []).entries()) {
    const pick = (result: TransportResult): string => {
      const figure = result.block[index]!;
      return `${perSecond(figure.iops)}, ${us(figure.latencyMedian)}, ${figure.kicksPerOperation.toFixed(2)}+${figure.callsPerOperation.toFixed(2)}`;
    };
    row(`4 KiB ${kind} depth ${depth}: ops, median, kicks+calls/op`, pick);
  }
  for (const [index, { between }] of (results[0]?.net ?? []).entries()) {
    row(`echo ${between}: median`, (each) => us(each.net[index]!.rttMedian));
    row(
      `UDP ${between}`,
      (each) =>
        `${perSecond(each.net[index]!.datagramsPerSecond)}, ${each.net[index]!.mbPerSecond.toFixed(0)} MB/s`,
    );
  }
  return table.toString();
}

/** `VIRTIO_NET_F_MAC` as `MAC`: the device is named before it. */
function shortName(feature: string): string {
  return feature.replace(/^VIRTIO_(?:[A-Z]+_)?F_/, '');
}

function perSecond(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(0)} k/s` : `${value.toFixed(0)}/s`;
}

function us(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} µs`;
}
