import { PC_ROM_RESET_OFFSET, PC_ROM_SIZE } from '@virtlab/abi/pc-chipset';

/** cli; hlt; and a jump back to the hlt, should anything wake the processor. */
const HALT: readonly number[] = [0xfa, 0xf4, 0xeb, 0xfd];

/** Firmware whose only act is to stop: the devices are then all ours. */
export function haltingRom(): Uint8Array {
  const rom = new Uint8Array(PC_ROM_SIZE);
  rom.set(HALT, PC_ROM_RESET_OFFSET);
  return rom;
}
