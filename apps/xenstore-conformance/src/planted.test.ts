import { XS_READ } from '@virtlab/abi/xs-wire';
import { PROFILE_C_4_17, PROFILE_C_HEAD, type ByteStream } from '@virtlab/xenstore';
import { expect, it } from 'vitest';
import { compare } from './compare.ts';
import { generateScript } from './generate.ts';
import { knownDifferencesOf } from './known-differences.ts';
import { play } from './player.ts';
import { explain, runCampaign } from './random-campaign.ts';
import type { Script } from './script.ts';
import { shrink } from './shrink.ts';
import type { Subject } from './subjects/subject.ts';
import { virtlabSubject } from './subjects/virtlab-daemon.ts';
import { virtlabSocketSubject } from './subjects/virtlab-socket.ts';

/** A client stream on which READ replies of one byte come with another one. */
function misreading(stream: ByteStream): ByteStream {
  return {
    attach: (handler) =>
      stream.attach({
        onData: (bytes) => handler.onData(withWrongReads(bytes)),
        onDrain: () => handler.onDrain(),
        onClose: (reason) => handler.onClose(reason),
      }),
    send: (bytes) => stream.send(bytes),
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    close: (failure) => stream.close(failure),
  };
}

/** In memory every message is a chunk of its own. */
function withWrongReads(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== XS_READ || bytes.length !== 17) return bytes;
  const wrong = bytes.slice();
  wrong[16] = 0x21;
  return wrong;
}

const right = virtlabSubject(PROFILE_C_4_17);
const wrong: Subject = virtlabSubject(PROFILE_C_4_17, misreading);

it('a daemon with one wrong answer is found by random scripts, and the script becomes minimal', async () => {
  const { failure } = await runCampaign({ ours: right, theirs: wrong, known: [], seed: 1, stepCount: 5000 });
  expect(failure?.script).toHaveLength(2);
  expect(failure?.script.map((step) => step.kind === 'request' && step.op)).toContain(XS_READ);
  expect(failure?.report).toContain('= !');
});

it('a difference that is known is counted, and the rest is compared', async () => {
  const known = [{ name: 'planted', profile: 'any', reason: 'for this test', matches: () => true }];
  const result = await runCampaign({ ours: right, theirs: wrong, known, seed: 1, stepCount: 500 });
  expect(result.failure).toBeUndefined();
  expect([...result.known]).toEqual(['planted']);
  expect(result.stepCount).toBe(500);
});

it('a known difference after which stores differ ends the comparison', async () => {
  const script: Script = [
    { kind: 'request', on: '0', op: XS_READ, payload: '/tool\0' },
    { kind: 'request', on: '0', op: XS_READ, payload: '/none\0' },
  ];
  const known = [{ name: 'parts', profile: 'any', reason: '', parts: true as const, matches: () => true }];
  const one = [['0> = '], ['0> OK']];
  const other = [['0> = x'], ['0> !ENOENT']];
  expect(compare(script, one, other, known)).toMatchObject({ unknown: [], stepCount: 1 });
  expect(compare(script, one, other, []).unknown).toHaveLength(2);
});

it('order within a connection counts, and the order of events around a reply', () => {
  const script: Script = [{ kind: 'request', on: '0', op: XS_READ, payload: '/tool\0' }];
  const events = ['0> event /a|t|', '0> OK'];
  expect(compare(script, [events], [events.toReversed()], []).unknown).toHaveLength(1);
});

it('the same daemon answers the same, in memory and through a socket', async () => {
  const script = generateScript({ seed: 3, stepCount: 250 });
  const transcript = await play(script, right);
  expect(await play(script, right)).toEqual(transcript);
  expect(await play(script, virtlabSocketSubject(PROFILE_C_4_17))).toEqual(transcript);
});

it('two profiles that differ are told apart', async () => {
  const { failure } = await runCampaign({
    ours: right,
    theirs: virtlabSubject(PROFILE_C_HEAD),
    known: knownDifferencesOf('none'),
    seed: 1,
    stepCount: 2000,
  });
  expect(failure?.differences.length).toBeGreaterThan(0);
});

it('shrinking keeps what is needed, in order, and asks no more often than it may', async () => {
  const steps: Script = Array.from({ length: 40 }, (_, domid) => ({ kind: 'create', domid }));
  let asked = 0;
  const needs = (script: Script): Promise<boolean> => {
    asked += 1;
    const ids = script.map((step) => (step.kind === 'create' ? step.domid : 0));
    return Promise.resolve(ids.includes(3) && ids.includes(17) && ids.indexOf(3) < ids.indexOf(17));
  };
  expect(await shrink(steps, needs)).toEqual([steps[3], steps[17]]);
  asked = 0;
  await shrink(steps, needs, 5);
  expect(asked).toBe(5);
});

it('a difference that does not come again is shown as it was seen', async () => {
  const script = generateScript({ seed: 1, stepCount: 20 });
  const differences = [{ index: 5, step: script[5]!, ours: ['0> OK'], theirs: ['0> !EIO'] }];
  const seen = {
    comparison: { unknown: differences, known: new Set<string>(), stepCount: 20 },
    report: 'as it was seen',
  };
  const failure = await explain(script, 1, right, { theirs: right, known: [] }, seen);
  expect(failure).toMatchObject({ seed: 1, script, differences });
  expect(failure.report).toContain('as it was seen');
});
