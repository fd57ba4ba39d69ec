/** Starts a machine, says its process id, and waits to be killed. */
import { createNodeAioContext } from '@virtlab/aio/node';
import { QemuMachine } from '../qemu-machine.ts';

const machine = new QemuMachine({ aio: createNodeAioContext(), devices: () => [] });
machine.qtest.settle();
console.log(machine.pid);
