// The other end of a Unix socket: sends back whatever comes. Argument: the path that the parent listens on.
import { connect } from 'node:net';

const socket = connect(process.argv[2]!);
socket.on('data', (bytes) => socket.write(bytes));
socket.on('close', () => process.exit(0));
socket.on('error', () => process.exit(0));
process.on('disconnect', () => process.exit(0));
