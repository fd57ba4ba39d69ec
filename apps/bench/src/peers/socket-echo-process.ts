// The other end of a Unix socket: answers each numbered message by one. Argument: the path that the parent listens on.
import { connect } from 'node:net';
import { MessageReader, MessageWriter } from './messages.ts';

const reader = new MessageReader();
const writer = new MessageWriter();
const socket = connect(process.argv[2]!);
socket.on('data', (bytes) => {
  const count = reader.read(bytes);
  if (count > 0) socket.write(writer.write(count));
});
socket.on('close', () => process.exit(0));
socket.on('error', () => process.exit(0));
process.on('disconnect', () => process.exit(0));
