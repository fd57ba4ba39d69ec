// Listens on the path that is its argument, and sends back what comes: what a server under Node costs that does nothing.
import { createServer } from 'node:net';
import { serveParent } from '../child.ts';

const server = createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.on('data', (bytes) => void socket.write(bytes));
});
const listening = Promise.withResolvers<undefined>();
server.listen(process.argv[2]!, () => listening.resolve(undefined));
serveParent(() => listening.promise);
