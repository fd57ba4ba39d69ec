// Listens on the path that is its argument, and sends back what comes on each connection.
import { createServer } from 'node:net';
import { serveParent } from '../child.ts';

const server = createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
});
const listening = Promise.withResolvers<undefined>();
server.listen(process.argv[2]!, () => listening.resolve(undefined));
serveParent(() => listening.promise);
