/** Where a device's entropy comes from. */
export interface RandomSource {
  /** Fills `bytes`, at most `FILL_SIZE_MAX` of them, with unpredictable ones. The memory is the device's own. */
  fill(bytes: Uint8Array<ArrayBuffer>): void;
}

/** Bytes per `fill`: what Web Crypto gives in one call. */
export const FILL_SIZE_MAX = 65536;

/** The platform's generator, as Web Crypto has it in browsers and in Node. */
export const webCryptoSource: RandomSource = {
  fill: (bytes) => {
    globalThis.crypto.getRandomValues(bytes);
  },
};
