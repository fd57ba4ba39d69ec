export { createPcapFile, type PcapFile, type PcapFileOptions, type PcapFileStatistics } from './pcap-file.ts';
export { createTapPort, type TapPort, type TapPortOptions, type TapPortStatistics } from './tap-port.ts';
