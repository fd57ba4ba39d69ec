import { expect, it } from 'vitest';
import { EventFd } from './event-fd.ts';
import { closeFd, dupFd, openFdCount } from './fd.ts';
import { PollSet } from './poll-set.ts';
import { startProgram } from './testing/child-process.ts';
import { describeWithFfi } from './testing/describe-with-ffi.ts';
import { runProgram } from './testing/run-program.ts';
import { watchReadable } from './watch.ts';

const PEER = new URL('./testing/peer-program.ts', import.meta.url);

describeWithFfi('EventFd', () => {
  it('eventfd(2): writes add up to one wake-up, a read takes them all', () => {
    using event = EventFd.create();
    expect(event.read()).toBe(false);
    event.write();
    event.write();
    expect(event.read()).toBe(true);
    expect(event.read()).toBe(false);
  });

  it('a counter at its maximum makes write do nothing instead of blocking', () => {
    using event = EventFd.create();
    using other = EventFd.fromFd(dupFd(event.fd));
    for (let i = 0; i < 3; i++) other.write();
    expect(event.read()).toBe(true);
  });

  it('a read does not wait, also where another owner of the open file made it blocking', () => {
    const program = `
      import { EventFd } from '@virtlab/linux';
      import { makeBlocking } from './testing/odd-descriptors.ts';
      const event = EventFd.create();
      makeBlocking(event.fd);
      event.write();
      console.log(event.read(), event.read());
    `;
    expect(runProgram(program)).toBe('true false');
  });

  it('close is idempotent; afterwards a call fails instead of reaching a reused descriptor', () => {
    const before = openFdCount();
    const event = EventFd.create();
    event.close();
    event.close();
    expect(event.fd).toBe(-1);
    expect(() => event.write()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(openFdCount()).toBe(before);
  });

  it('closeFd of a descriptor that is not open is an error', () => {
    const fd = dupFd(0);
    closeFd(fd);
    expect(() => closeFd(fd)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'close' }));
  });

  it('wakes another process and is woken by it', async () => {
    const before = openFdCount();
    const peer = startProgram(PEER);
    using kick = EventFd.create();
    using call = EventFd.create();
    const count = 50;
    peer.channel.send({ op: 'echo', size: 0, count }, [kick.fd, call.fd]);
    const set = new PollSet();
    set.add(call.fd);
    for (let i = 0; i < count; i++) {
      kick.write();
      expect(set.wait(5000)).toBe(1);
      expect(call.read()).toBe(true);
    }
    expect((await peer.channel.next())?.value).toMatchObject({ ok: true });
    expect(await peer.stop()).toBe(0);
    expect(openFdCount()).toBe(before + 2);
  });
});

describeWithFfi('PollSet', () => {
  it('poll(2): says how many and which descriptors are ready', () => {
    const events = Array.from({ length: 9 }, () => EventFd.create());
    const set = new PollSet(1);
    events.forEach((event, index) => expect(set.add(event.fd)).toBe(index));
    expect(set.wait(0)).toBe(0);
    events[2]!.write();
    events[8]!.write();
    expect(set.wait(Infinity)).toBe(2);
    expect(events.map((_, index) => set.isReady(index)).filter(Boolean)).toHaveLength(2);
    expect(set.isReady(2) && set.isReady(8)).toBe(true);
    set.remove(2);
    expect(set.wait(0)).toBe(1);
    expect(set.isReady(2)).toBe(false);
    for (const event of events) event.close();
  });

  it('gives up after the time-out', () => {
    using event = EventFd.create();
    const set = new PollSet();
    set.add(event.fd);
    expect(set.wait(1.5)).toBe(0);
  });

  it('a closed descriptor in the set is an error, not a busy loop', () => {
    const event = EventFd.create();
    const set = new PollSet();
    set.add(event.fd);
    event.close();
    expect(() => set.wait(1000)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });
});

describeWithFfi('watchReadable', () => {
  it('calls in the event loop, and drains microtasks after the handler', async () => {
    using event = EventFd.create();
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      const watch = watchReadable(event.fd, () => {
        event.read();
        order.push('handler');
        queueMicrotask(() => {
          order.push('microtask');
          watch.close();
          resolve();
        });
      });
      event.write();
      order.push('written');
    });
    expect(order).toEqual(['written', 'handler', 'microtask']);
  });

  it('is silent after close, and closing twice is harmless', async () => {
    using event = EventFd.create();
    let calls = 0;
    const watch = watchReadable(event.fd, () => void calls++);
    watch.unref();
    watch.ref();
    watch.close();
    watch.close();
    watch.unref();
    event.write();
    using fence = EventFd.create();
    await new Promise<void>((resolve) => {
      const fenceWatch = watchReadable(fence.fd, () => {
        fenceWatch.close();
        resolve();
      });
      fence.write();
    });
    expect(calls).toBe(0);
  });
});
