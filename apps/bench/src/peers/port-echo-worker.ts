// A worker thread that sends back every message.
import { parentPort } from 'node:worker_threads';

const port = parentPort!;
port.on('message', (message) => port.postMessage(message));
