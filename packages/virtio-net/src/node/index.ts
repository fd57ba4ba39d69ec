export { createPcapFile, type PcapFile, type PcapFileOptions, type PcapFileStatistics } from './pcap-file.ts';
