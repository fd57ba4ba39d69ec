import type { DeviceHost, DeviceHostOptions } from '@virtlab/virtio';
import type { Report, Traffic } from './report.ts';

/** How a device's host says what goes wrong with it. */
export function hostReports(
  name: string,
  report: (report: Report) => void,
): Pick<DeviceHostOptions, 'name' | 'onViolation' | 'onRefusal' | 'onError'> {
  const warn = (message: string): void => report({ event: 'warning', message: `${name}: ${message}` });
  return {
    name,
    onViolation: ({ queue, violation }) => {
      const where = queue === undefined ? '' : `queue ${queue}: `;
      warn(`${where}§${violation.section}: ${violation.message}; the device needs a reset`);
    },
    // Behind QEMU a driver does not find out: it goes on with a device that has no queues.
    onRefusal: (reason) => warn(`the driver's features are refused, it gets no queues: ${reason}`),
    onError: (error) => warn(`the device failed: ${error instanceof Error ? error.stack : String(error)}`),
  };
}

/** Over all queues, since the host was made. */
export function trafficOf({ statistics }: DeviceHost): Traffic {
  return sumOf(statistics);
}

export function sumOf(all: readonly Traffic[]): Traffic {
  const sum = { requests: 0, kicks: 0, calls: 0 };
  for (const { requests, kicks, calls } of all) {
    sum.requests += requests;
    sum.kicks += kicks;
    sum.calls += calls;
  }
  return sum;
}

export function trafficSince(before: Traffic, now: Traffic): Traffic {
  return {
    requests: now.requests - before.requests,
    kicks: now.kicks - before.kicks,
    calls: now.calls - before.calls,
  };
}
