export { createPcapFile, type PcapFile, type PcapFileOptions, type PcapFileStatistics } from './pcap-file.ts';
export { createTapPort, type TapPort, type TapPortOptions, type TapPortStatistics } from './tap-port.ts';
export { createStreamPort, type StreamPort, type StreamPortStatistics } from './stream-port.ts';
export { FRAME_LENGTH_SIZE, FrameStreamReader, STREAM_FRAME_SIZE_MAX } from '../frame-stream.ts';
