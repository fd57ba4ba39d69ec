export { createRngDevice, type RngDeviceOptions } from './rng-device.ts';
export { RngDriver, createRngDriver, type RngDriverOptions } from './rng-driver.ts';
export { FILL_SIZE_MAX, webCryptoSource, type RandomSource } from './random-source.ts';
