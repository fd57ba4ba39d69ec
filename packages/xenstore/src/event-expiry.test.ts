import { XS_MKDIR, XS_WATCH, XS_WATCH_EVENT, XS_WRITE } from '@virtlab/abi/xs-wire';
import { expect, it } from 'vitest';
import { ScriptConnection } from './conformance-script.ts';
import type { ByteStream } from './contract.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { ManualClock } from './manual-clock.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Domain 5 with a watch on `/w`, over a stream that holds very little and that its end has stopped reading. */
async function sleepingGuest(watchEventTimeoutMs?: number): Promise<{
  clock: ManualClock;
  xenstore: ReturnType<typeof createXenstore>;
  tools: ScriptConnection;
  guest: ScriptConnection;
  guestEnd: ByteStream;
}> {
  const clock = new ManualClock();
  const limits = watchEventTimeoutMs === undefined ? {} : { limits: { watchEventTimeoutMs } };
  const xenstore = createXenstore({ clock, ...limits });
  const connect = (domid: number, capacitySize: number): [ScriptConnection, ByteStream] => {
    const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize });
    xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 });
    return [new ScriptConnection(clientEnd), clientEnd];
  };
  const [tools] = connect(0, 4096);
  const [guest, guestEnd] = connect(5, 30);
  tools.send(XS_MKDIR, 0, '/w\0');
  await tools.next();
  tools.send(14, 0, '/w\0r0\0');
  await tools.next();
  guest.send(XS_WATCH, 0, '/w\0t\0');
  await guest.next();
  await guest.next();
  guestEnd.pause();
  return { clock, xenstore, tools, guest, guestEnd };
}

async function change(tools: ScriptConnection, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    tools.send(XS_WRITE, 0, `/w/${i}\0`);
    await tools.next();
  }
}

it('check_event_timeout: what a guest does not fetch in 20 s is dropped, but not what it has begun to fetch', async () => {
  const { clock, xenstore, tools, guest, guestEnd } = await sleepingGuest();
  await change(tools, 5);
  await turn();
  const held = xenstore.store.domain(5)!.memorySize;
  clock.advance(PROFILE_C_4_17.watchEventTimeoutMs - 1);
  expect(xenstore.store.domain(5)!.memorySize).toBe(held);
  clock.advance(1);
  expect(xenstore.store.domain(5)!.memorySize).toBeLessThan(held);
  guestEnd.resume();
  await turn();
  await change(tools, 1);
  const heard: (string | undefined)[] = [];
  guest.send(XS_WRITE, 0, '/none\0');
  for (;;) {
    const packet = await guest.next();
    if (packet?.type !== XS_WATCH_EVENT) break;
    heard.push(new TextDecoder().decode(packet.payload).split('\0')[0]);
  }
  expect(heard[0]).toBe('/w/0');
  expect(heard.at(-1)).toBe('/w/0');
  expect(heard.length).toBeLessThan(5);
  xenstore.close();
  expect(clock.pendingCount).toBe(0);
});

it('timeout_watch_event_msec: 0 keeps events for ever', async () => {
  const { clock, xenstore, tools } = await sleepingGuest(0);
  await change(tools, 5);
  const held = xenstore.store.domain(5)!.memorySize;
  clock.advance(10 ** 9);
  expect(xenstore.store.domain(5)!.memorySize).toBe(held);
  xenstore.close();
});
