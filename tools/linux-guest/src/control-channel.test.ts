import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { COMMAND_SIZE_MAX, ControlChannel, OUTPUT_SIZE_MAX } from './control-channel.ts';
import { LinuxGuestError } from './error.ts';
import { rejection } from './testing/rejection.ts';

/** The guest's end, played by the test. */
class FakeGuest {
  readonly #stream: Duplex;
  readonly #received: AsyncIterator<string>;
  #partial = '';

  constructor(stream: Duplex) {
    this.#stream = stream;
    this.#received = stream.setEncoding('latin1')[Symbol.asyncIterator]() as AsyncIterator<string>;
  }

  say(...lines: readonly string[]): void {
    for (const line of lines) this.#stream.write(`${line}\n`);
  }

  answer(id: string, status: number, output: string, size: number = Buffer.byteLength(output)): void {
    const body = Buffer.from(output).toString('base64');
    this.say(`virtlab done ${id} ${status} ${size}`, ...(body.match(/.{1,76}/g) ?? []), `virtlab end ${id}`);
  }

  /** The next line that is not empty. */
  async hear(): Promise<readonly string[]> {
    for (;;) {
      const end = this.#partial.indexOf('\n');
      if (end < 0) {
        this.#partial += (await this.#received.next()).value as string;
        continue;
      }
      const line = this.#partial.slice(0, end);
      this.#partial = this.#partial.slice(end + 1);
      if (line !== '') return line.split(' ');
    }
  }
}

function connect(): { readonly channel: ControlChannel; readonly guest: FakeGuest } {
  const [ours, theirs] = duplexPair();
  return { channel: new ControlChannel(ours, () => ' (context)'), guest: new FakeGuest(theirs) };
}

async function boot(
  bootId = 'first',
): Promise<{ readonly channel: ControlChannel; readonly guest: FakeGuest }> {
  const ends = connect();
  ends.guest.say(`virtlab ready ${bootId} 6.1.0`);
  expect(await ends.channel.untilBoot(10_000)).toEqual({ bootId, kernelRelease: '6.1.0' });
  return ends;
}

const LONG_MS = 10_000;

describe('ControlChannel', () => {
  it('carries any bytes in both directions', async () => {
    const { channel, guest } = await boot();
    const script = `printf '\\0\\n'; echo "ü virtlab end 1"\n`;
    const result = channel.run(script, LONG_MS);
    const [word, id, size, text] = await guest.hear();
    expect([word, Number(size)]).toEqual(['run', text!.length]);
    expect(Buffer.from(text!, 'base64').toString()).toBe(script);
    guest.answer(id!, 3, '\0\nvirtlab end 1\nü'.repeat(50));
    const expected = '\0\nvirtlab end 1\nü'.repeat(50);
    expect(await result).toEqual({
      status: 3,
      output: expected,
      bytes: new Uint8Array(Buffer.from(expected)),
    });
  });

  it('ignores what the firmware, the kernel or a terminal say in between', async () => {
    const { channel, guest } = connect();
    guest.say(
      '',
      'SeaBIOS (version 1)',
      'virtlab',
      'run 1 4 abcd',
      'virtlab end 7',
      'virtlab done x',
      'junk',
    );
    guest.say('virtlab ready first 6.1.0');
    await channel.untilBoot(LONG_MS);
    const result = channel.run('true', LONG_MS);
    const [, id] = await guest.hear();
    guest.answer('99', 0, 'of nobody');
    guest.answer(id!, 0, '');
    expect(await result).toMatchObject({ status: 0, output: '' });
  });

  it('matches answers by number', async () => {
    const { channel, guest } = await boot();
    const results = [channel.run('one', LONG_MS), channel.run('two', LONG_MS)];
    const [, one] = await guest.hear();
    const [, two] = await guest.hear();
    guest.answer(two!, 0, 'two');
    guest.answer(one!, 0, 'one');
    expect((await Promise.all(results)).map(({ output }) => output)).toEqual(['one', 'two']);
  });

  it('kills a command that takes too long, and does not mind its late answer', async () => {
    const { channel, guest } = await boot();
    const late = channel.run('sleep 1000', 1);
    const [, id] = await guest.hear();
    await expect(late).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringContaining('(context)'),
    });
    expect(await guest.hear()).toEqual(['kill', id]);
    guest.answer(id!, 137, '');
    const next = channel.run('true', LONG_MS);
    const [, nextId] = await guest.hear();
    guest.answer(nextId!, 0, 'here');
    expect((await next).output).toBe('here');
  });

  it('refuses an answer that is too long or damaged, and a command that arrived damaged', async () => {
    const { channel, guest } = await boot();
    const refused = async (reply: (id: string) => void): Promise<unknown> => {
      const result = channel.run('true', LONG_MS).catch((error: unknown) => error);
      const [, id] = await guest.hear();
      reply(id!);
      return result;
    };
    expect(
      await refused((id) => guest.answer(id, 0, 'x'.repeat(OUTPUT_SIZE_MAX), OUTPUT_SIZE_MAX + 1)),
    ).toMatchObject({
      code: 'output',
    });
    expect(await refused((id) => guest.answer(id, 0, 'short', 6))).toMatchObject({ code: 'protocol' });
    expect(await refused((id) => guest.say(`virtlab refused ${id}`))).toMatchObject({ code: 'protocol' });
    expect(() => channel.run('x'.repeat(COMMAND_SIZE_MAX + 1), LONG_MS)).toThrow(RangeError);
  });

  it('ends what runs when the guest starts anew, announced or not', async () => {
    const { channel, guest } = await boot();
    const surprised = rejection(channel.run('true', LONG_MS));
    await guest.hear();
    guest.say('virtlab done 1 0 4', 'dHJ1', 'virtlab ready second 6.1.0', 'virtlab end 1');
    expect(await surprised).toMatchObject({ code: 'restarted' });
    const expected = rejection(channel.run('true', LONG_MS));
    channel.expectBoot();
    expect(await expected).toMatchObject({ code: 'restarted' });
    await expect(channel.run('true', LONG_MS)).rejects.toMatchObject({ code: 'restarted' });
    guest.say('virtlab ready third 6.1.0');
    expect(await channel.untilBoot(LONG_MS)).toMatchObject({ bootId: 'third' });
  });

  it('says that the guest does not start', async () => {
    await expect(connect().channel.untilBoot(1)).rejects.toMatchObject({ code: 'timeout' });
  });

  it('ends all that waits with the error of its end', async () => {
    const { channel } = await boot();
    const error = new LinuxGuestError('exited', 'gone');
    const waiting = rejection(channel.run('true', LONG_MS));
    channel.fail(error);
    expect(await waiting).toBe(error);
    channel.expectBoot();
    await expect(channel.run('true', LONG_MS)).rejects.toBe(error);
    await expect(channel.untilBoot(LONG_MS)).rejects.toBe(error);
  });
});
