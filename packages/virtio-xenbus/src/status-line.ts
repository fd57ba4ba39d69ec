/** `driver-status` and `device-status`: `<serial> <status>`, both decimal. */
export interface StatusLine {
  /** Names one write of the driver's; 1 to 2^32 - 1. */
  readonly serial: number;
  /** device_status, VIRTIO §2.1. */
  readonly status: number;
}

const SERIAL_MAX = 0xffff_ffff;
const STATUS_MAX = 0xff;

/** What a device says before the driver wrote anything. */
export const NO_STATUS: StatusLine = { serial: 0, status: 0 };

export function formatStatusLine({ serial, status }: StatusLine): string {
  return `${serial} ${status}`;
}

/** Undefined for anything else: the other end wrote nonsense. */
export function parseStatusLine(text: string): StatusLine | undefined {
  const match = /^(\d{1,10}) (\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  const serial = Number(match[1]);
  const status = Number(match[2]);
  return serial <= SERIAL_MAX && status <= STATUS_MAX ? { serial, status } : undefined;
}

/** The serial of the next write: never 0. */
export function nextSerial(serial: number): number {
  return serial >= SERIAL_MAX ? 1 : serial + 1;
}
