/** What the device's thread tells the main thread, and how that is printed. */

export type Report =
  | {
      readonly event: 'listening';
      readonly sockets: readonly string[];
      /** That the queues of a disk are spread over. */
      readonly threads?: number;
    }
  | { readonly event: 'connected'; readonly socket: string }
  | {
      readonly event: 'features';
      readonly socket: string;
      /** Hexadecimal. */
      readonly features: string;
      readonly protocolFeatures: string;
    }
  | {
      readonly event: 'queue';
      readonly socket: string;
      readonly queue: number;
      readonly state: 'started' | 'stopped';
    }
  | ({
      readonly event: 'disconnected';
      readonly socket: string;
      /** What was wrong, if anything was. */
      readonly reason: string | undefined;
    } & Traffic)
  | { readonly event: 'joined' | 'left'; readonly port: string; readonly reason: string | undefined }
  | { readonly event: 'warning'; readonly message: string }
  | { readonly event: 'refused'; readonly kind: 'usage' | 'environment'; readonly message: string }
  /** Something was thrown that nobody caught: nothing is in order any more, and the process ends. */
  | { readonly event: 'failed'; readonly message: string }
  | { readonly event: 'closed'; readonly problem: string | undefined };

/** Of one connection, over all its queues. */
export interface Traffic {
  readonly requests: number;
  readonly kicks: number;
  readonly calls: number;
}

export interface Printer {
  print(report: Report): void;
}

/** A JSON text a line on stdout; else a line when everything listens on stdout, and the rest on stderr. */
export function createPrinter(name: string, isJson: boolean): Printer {
  return {
    print(report) {
      if (isJson) {
        const pid = report.event === 'listening' ? { pid: process.pid } : {};
        process.stdout.write(`${JSON.stringify({ ...report, ...pid })}\n`);
      } else if (report.event === 'listening') {
        process.stdout.write(`${name} listens at ${report.sockets.join(', ')}\n`);
      } else {
        const line = sentence(report);
        if (line !== undefined) process.stderr.write(`virtlab: ${line}\n`);
      }
    },
  };
}

function sentence(report: Report): string | undefined {
  switch (report.event) {
    case 'connected':
      return `${report.socket}: connected`;
    case 'features':
      return `${report.socket}: features ${report.features}, of the protocol ${report.protocolFeatures}`;
    case 'queue':
      return `${report.socket}: queue ${report.queue} ${report.state}`;
    case 'disconnected': {
      const { requests, kicks, calls, reason } = report;
      const end = reason === undefined ? 'disconnected' : `disconnected: ${reason}`;
      return `${report.socket}: ${end} (${requests} requests, ${kicks} kicks, ${calls} calls)`;
    }
    case 'joined':
    case 'left':
      return `${report.port} ${report.event}${report.reason === undefined ? '' : `: ${report.reason}`}`;
    case 'warning':
      return report.message;
    default:
      return undefined;
  }
}
