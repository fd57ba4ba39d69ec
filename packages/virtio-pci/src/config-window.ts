import { VIRTIO_PCI_CFG_CAP } from '@virtlab/abi/virtio-pci';
import type { ConfigSpace } from './config-space.ts';
import type { AccessWidth, PciFunction } from './pci-function.ts';

/** What the driver aimed the window at. */
interface WindowTarget {
  readonly bar: number;
  readonly offset: number;
  readonly width: AccessWidth;
}

/**
 * The PCI_CFG capability (§4.1.4.9): an access to its pci_cfg_data is the BAR access that its bar, offset and length
 * describe. It needs no BAR address and no memory decoding; firmware uses it before either.
 */
export class ConfigWindow {
  readonly #config: ConfigSpace;
  readonly #capability: number;
  readonly #bars: Pick<PciFunction, 'barRead' | 'barWrite'>;

  constructor(config: ConfigSpace, capability: number, bars: Pick<PciFunction, 'barRead' | 'barWrite'>) {
    this.#config = config;
    this.#capability = capability;
    this.#bars = bars;
  }

  /** Offset of pci_cfg_data in configuration space. */
  get dataOffset(): number {
    return this.#capability + VIRTIO_PCI_CFG_CAP.offset.pci_cfg_data;
  }
  /** Whether an access to configuration space touches pci_cfg_data. */
  overlaps(offset: number, width: AccessWidth): boolean {
    const end = this.dataOffset + VIRTIO_PCI_CFG_CAP.width.pci_cfg_data;
    return offset < end && this.dataOffset < offset + width;
  }

  /** Before pci_cfg_data is read. */
  fetch(): void {
    const target = this.#target();
    if (target === undefined) return;
    const { view } = this.#config;
    const value = this.#bars.barRead(target.bar, target.offset, target.width);
    if (target.width === 1) view.setUint8(this.dataOffset, value);
    else if (target.width === 2) view.setUint16(this.dataOffset, value, true);
    else view.setUint32(this.dataOffset, value, true);
  }

  /** After pci_cfg_data was written. */
  flush(): void {
    const target = this.#target();
    if (target === undefined) return;
    const value = this.#config.read(this.dataOffset, target.width);
    this.#bars.barWrite(target.bar, target.offset, target.width, value);
  }

  /** §4.1.4.9.2: length is 1, 2 or 4, and offset a multiple of it; anything else is no access. */
  #target(): WindowTarget | undefined {
    const cap = VIRTIO_PCI_CFG_CAP.read(this.#config.view, this.#capability);
    const width = cap.length;
    if ((width !== 1 && width !== 2 && width !== 4) || cap.offset % width !== 0) return undefined;
    return { bar: cap.bar, offset: cap.offset, width };
  }
}
