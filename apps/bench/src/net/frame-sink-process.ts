// The receiver of frames over a Unix socket. Argument: the path that the parent listens on.
import { connect } from 'node:net';
import { FrameDecoder, encodeFrames } from './frame-stream.ts';
import { CARD_MAC, FRAME_END, FRAME_SIZE_MIN, FloodFrame, FloodReceiver, STATION_MAC } from './frames.ts';

const answer = new FloodFrame(FRAME_SIZE_MIN, STATION_MAC, CARD_MAC);
const socket = connect(process.argv[2]!);
const receiver = new FloodReceiver((received) => {
  socket.write(encodeFrames([answer.set(received, FRAME_END)]));
});
const decoder = new FrameDecoder((frame) => receiver.receive(frame));
socket.on('data', (bytes) => decoder.decode(bytes));
socket.on('close', () => process.exit(0));
socket.on('error', () => process.exit(0));
process.on('disconnect', () => process.exit(0));
