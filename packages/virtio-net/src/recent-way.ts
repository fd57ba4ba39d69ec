/**
 * What a switch found out for a frame holds for all between the same two addresses in the same batch, as long as the table of
 * addresses stays what it was: most frames are such.
 */
export class RecentWay<Port> {
  to: Port | undefined;
  #batch = -1;
  #version = -1;
  #high = 0;
  #low = 0;
  #sourceHigh = 0;
  #sourceLow = 0;

  /** Addresses as in `MacTable`, low words signed. */
  set(
    to: Port,
    batch: number,
    version: number,
    high: number,
    low: number,
    sourceHigh: number,
    sourceLow: number,
  ): void {
    this.to = to;
    this.#batch = batch;
    this.#version = version;
    this.#high = high;
    this.#low = low;
    this.#sourceHigh = sourceHigh;
    this.#sourceLow = sourceLow;
  }

  matches(
    batch: number,
    version: number,
    high: number,
    low: number,
    sourceHigh: number,
    sourceLow: number,
  ): boolean {
    return (
      this.#low === low &&
      this.#sourceLow === sourceLow &&
      this.#batch === batch &&
      this.#version === version &&
      this.#high === high &&
      this.#sourceHigh === sourceHigh
    );
  }
}
