import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { LinuxGuestError } from './error.ts';
import { QmpClient } from './qmp-client.ts';

interface Command {
  readonly execute: string;
  readonly arguments: unknown;
  readonly id: number;
}

/** A monitor whose answers the test gives. */
function monitor(reply: (command: Command) => object | undefined): {
  readonly qmp: QmpClient;
  readonly stream: Duplex;
} {
  const [ours, theirs] = duplexPair();
  theirs.write('{"QMP": {"version": {}}}\r\n');
  theirs.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.trim().split('\n')) {
      const command = JSON.parse(line) as Command;
      const answer = command.execute === 'qmp_capabilities' ? { return: {} } : reply(command);
      if (answer !== undefined) theirs.write(`${JSON.stringify({ ...answer, id: command.id })}\r\n`);
    }
  });
  return { qmp: new QmpClient(ours), stream: theirs };
}

describe('QmpClient', () => {
  it('gives what QEMU returns', async () => {
    const { qmp } = monitor((command) => ({ return: [command.execute, command.arguments] }));
    expect(await qmp.execute('query-status', { a: 1 })).toEqual(['query-status', { a: 1 }]);
  });

  it('says which command QEMU refused and why', async () => {
    const { qmp } = monitor(() => ({ error: { class: 'GenericError', desc: 'no such thing' } }));
    await expect(qmp.execute('device_del')).rejects.toThrow(
      new LinuxGuestError('qmp', 'device_del: no such thing'),
    );
  });

  it('keeps events, and waits for one, cut in pieces or not', async () => {
    const { qmp, stream } = monitor(() => undefined);
    const wanted = qmp.nextEvent(({ event, data }) => event === 'DEVICE_DELETED' && data?.['device'] === 'b');
    stream.write(
      '{"event": "RESET"}\r\n{"event": "DEVICE_DELETED", "data": {"device": "a"}}\r\n{"event": "DEVICE_',
    );
    stream.write('DELETED", "data": {"device": "b"}}\r\n');
    expect(await wanted).toEqual({ event: 'DEVICE_DELETED', data: { device: 'b' } });
    expect(qmp.events.map(({ event }) => event)).toEqual(['RESET', 'DEVICE_DELETED', 'DEVICE_DELETED']);
    await expect(qmp.nextEvent(() => true, 1)).rejects.toMatchObject({ code: 'timeout' });
  });

  it('ends all that waits with the error of its end', async () => {
    const { qmp } = monitor(() => undefined);
    const error = new LinuxGuestError('exited', 'gone');
    const waiting = Promise.allSettled([qmp.execute('stop'), qmp.nextEvent(() => true)]);
    qmp.fail(error);
    expect(await waiting).toEqual([
      { status: 'rejected', reason: error },
      { status: 'rejected', reason: error },
    ]);
    await expect(qmp.execute('cont')).rejects.toBe(error);
    await expect(qmp.nextEvent(() => true)).rejects.toBe(error);
  });
});
