import { startLinuxGuest } from '../linux-guest.ts';

/** Program of a test: a guest whose QEMU connects to a socket of the test's. Says so, and waits to be killed. */
const [socketPath] = process.argv.slice(2);
await startLinuxGuest({ arguments: ['-chardev', `socket,id=witness,path=${socketPath}`] });
process.stdout.write('started\n');
