/** What testpmd prints of its counters. */

/** `show port stats all`: what the port's driver counted since the last `clear port stats all`. */
export interface PortStatistics {
  readonly port: number;
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly rxMissed: number;
  readonly rxErrors: number;
  readonly rxNoBuffer: number;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly txErrors: number;
}

/** What `stop` prints: what was forwarded since `start`. `txDropped` are packets that found no room. */
export interface ForwardStatistics {
  readonly port: number;
  readonly rxPackets: number;
  readonly rxDropped: number;
  readonly txPackets: number;
  readonly txDropped: number;
}

const NIC_HEADER = /NIC statistics for port (\d+)\s+#+/g;
const FORWARD_HEADER = /Forward statistics for port (\d+)\s+-+/g;

/** Throws what was printed where a counter is missing. */
export function parsePortStatistics(output: string): PortStatistics[] {
  return sections(output, NIC_HEADER).map(({ port, counter }) => ({
    port,
    rxPackets: counter('RX-packets'),
    rxBytes: counter('RX-bytes'),
    rxMissed: counter('RX-missed'),
    rxErrors: counter('RX-errors'),
    rxNoBuffer: counter('RX-nombuf'),
    txPackets: counter('TX-packets'),
    txBytes: counter('TX-bytes'),
    txErrors: counter('TX-errors'),
  }));
}

/** Throws what was printed where a counter is missing. */
export function parseForwardStatistics(output: string): ForwardStatistics[] {
  return sections(output, FORWARD_HEADER).map(({ port, counter }) => ({
    port,
    rxPackets: counter('RX-packets'),
    rxDropped: counter('RX-dropped'),
    txPackets: counter('TX-packets'),
    txDropped: counter('TX-dropped'),
  }));
}

interface Section {
  readonly port: number;
  readonly counter: (name: string) => number;
}

function sections(output: string, header: RegExp): Section[] {
  const found = [...output.matchAll(header)];
  return found.map((match, index) => {
    const text = output.slice(match.index + match[0].length, found[index + 1]?.index);
    const counter = (name: string): number => {
      const value = new RegExp(`${name}:\\s*(\\d+)`).exec(text)?.[1];
      if (value === undefined) throw new Error(`No ${name} in testpmd's output: ${output}`);
      return Number(value);
    };
    return { port: Number(match[1]), counter };
  });
}
