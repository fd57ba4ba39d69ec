import type { BenchPlan } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { startEchoes, withDaemons } from './daemons.ts';
import { connectionCurves, watchCurves } from './load-curves.ts';
import { compileLoadClient } from './load-client.ts';
import { compareRequests } from './request-comparisons.ts';
import { sizeCurves } from './size-curves.ts';

export const XENSTORE_TEXT: GroupText = {
  title: 'xenstored',
  method: [
    'Our daemon, and the daemons of Xen 4.17 in C and in OCaml, each a process with a Unix socket, all asked by the same **client** in C: blocking calls, one write for all requests that are due and one read for all replies that are there, every reply checked. What the client and its socket cost by themselves say two **echoes**, servers that send back what comes: one in C, one under Node with `node:net`. Their figures are the least that a daemon of their kind could come to.',
    'A value has 16 bytes, a path 23. A transaction is three requests, each waiting for the one before. A watch event is counted from the write by one connection to the event at another.',
    'The daemons of Xen run without a hypervisor, by a preload library that answers for it. The **CPU of the daemon** is its own alone, CPU that of client and daemon.',
    'The **curves** are medians of rounds in which the daemons take turns. A size that a daemon would need more than 25 s to be filled to has no figure. Memory for one node is what the process, or after a full collection the heap, grew by, divided by the nodes; directories of 100 nodes are counted in.',
  ],
  findings: [
    'One request at a time is two wake-ups of a sleeping process, whoever answers: see the echoes. With more under way the work of the daemon shows: the C daemon reads header and payload of each request, and sends each reply, by a system call of its own, where we take what is there with one call and answer with one.',
    'Writes cost what the watches that match cost, and not what exists: ours are found by path. The C daemon looks at every watch of every connection. A transaction begins empty in all of them, so its start is the same in any store. What grows in the C daemon is the price of a new node, by which it has no figure for the largest store.',
    'The C daemon keeps its nodes in a packed table of bytes; a node of ours is a string and two small objects in a map, which takes some times as much memory.',
  ],
};

/** Nodes that the operations use. */
const USED_COUNT = 100;

export async function runXenstore(plan: BenchPlan): Promise<ComparisonReport[]> {
  const client = compileLoadClient(plan.folder);
  const comparisons = await withDaemons(plan, async (daemons) => {
    await using echoes = new AsyncDisposableStack();
    const listeners = await startEchoes(client, plan.folder);
    for (const each of listeners) echoes.use(each);
    for (const { socketPath } of daemons) await client.fill(socketPath, 0, USED_COUNT);
    const found = await compareRequests(client, daemons, listeners, plan);
    for (const curve of await watchCurves(client, daemons, plan)) plan.onCurve(curve);
    for (const curve of await connectionCurves(client, daemons, plan)) plan.onCurve(curve);
    return found;
  });
  await withDaemons(plan, async (daemons) => {
    for (const curve of await sizeCurves(client, daemons, plan)) plan.onCurve(curve);
  });
  return comparisons;
}
