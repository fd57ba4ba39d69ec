import { LinuxError, linuxFfi, punchHole, zeroRange } from '@virtlab/linux';

/** The file, or the machine, has no such call. What else goes wrong is an error of the operation. */
const CANNOT: ReadonlySet<string> = new Set(['EOPNOTSUPP', 'ENOSYS', 'ENODEV', 'ESPIPE', 'EPERM', 'EINVAL']);
/** Only for this range: a block device wants whole blocks of its own. */
const CANNOT_HERE = 'EINVAL';

/** fallocate(2) on one file: holes and zero ranges where file system and machine can, known after the first try. */
export class FileSpace {
  readonly #fd: number;
  #hasHoles: boolean;
  #hasZeroRanges: boolean;

  constructor(fd: number) {
    const { available } = linuxFfi();
    this.#fd = fd;
    this.#hasHoles = available;
    this.#hasZeroRanges = available;
  }

  /** As far as is known. */
  get hasHoles(): boolean {
    return this.#hasHoles;
  }

  /** False when it cannot be done. Throws `LinuxError` when it failed. */
  punch(position: number, size: number): boolean {
    if (!this.#hasHoles) return false;
    const problem = attempt(() => punchHole(this.#fd, position, size));
    if (problem !== undefined && problem !== CANNOT_HERE) this.#hasHoles = false;
    return problem === undefined;
  }

  /** The range reads as zero and stays allocated. Otherwise as `punch`. */
  zero(position: number, size: number): boolean {
    if (!this.#hasZeroRanges) return false;
    const problem = attempt(() => zeroRange(this.#fd, position, size));
    if (problem !== undefined && problem !== CANNOT_HERE) this.#hasZeroRanges = false;
    return problem === undefined;
  }
}

/** The code of what cannot be done; undefined when it was. */
function attempt(call: () => void): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof LinuxError && CANNOT.has(error.code)) return error.code;
    throw error;
  }
}
