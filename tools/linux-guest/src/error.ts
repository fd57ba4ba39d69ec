/**
 * Why a Linux guest could not be made or used.
 *
 * - `missing`: a program, the kernel or one of its modules is not on this machine; the message names the Debian package.
 * - `image`: the kernel image or a program could not be made ready for the guest.
 * - `timeout`: the guest did not do it in time. A command that ran into it has been killed in the guest.
 * - `exited`: QEMU ended; the message has what it and the guest's kernel said last.
 * - `panic`: the guest's kernel gave up.
 * - `restarted`: the guest started anew while the command ran.
 * - `status`: a command that had to succeed did not; the message has its output.
 * - `output`: a command wrote more than is carried.
 * - `protocol`: a command arrived damaged in the guest, or an answer here.
 * - `qmp`: QEMU refused a command of QMP.
 */
export type LinuxGuestErrorCode =
  | 'missing'
  | 'image'
  | 'timeout'
  | 'exited'
  | 'panic'
  | 'restarted'
  | 'status'
  | 'output'
  | 'protocol'
  | 'qmp';

export class LinuxGuestError extends Error {
  readonly code: LinuxGuestErrorCode;

  constructor(code: LinuxGuestErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'LinuxGuestError';
    this.code = code;
  }
}
