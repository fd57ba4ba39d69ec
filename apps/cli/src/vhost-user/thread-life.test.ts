import { createNodeAioContext } from '@virtlab/aio/node';
import { expect, it } from 'vitest';
import { ThreadLife } from './thread-life.ts';

function lifeOfTest(): { readonly life: ThreadLife<{ close(): Promise<void> }>; readonly said: unknown[] } {
  const said: unknown[] = [];
  return { life: new ThreadLife((problem) => said.push(problem)), said };
}

it('an end that comes while the thread starts waits for the start, and closes what that opened, once', async () => {
  const { life, said } = lifeOfTest();
  const { promise, resolve } = Promise.withResolvers<void>();
  const begun = life.begin(async () => {
    await promise;
    said.push('open');
    return { close: async () => void said.push('close') };
  });
  const ends = [life.end(undefined), life.end('again')];
  expect([life.isEnding, said]).toEqual([true, []]);
  resolve();
  await Promise.all([begun, ...ends]);
  expect(said).toEqual(['open', 'close', undefined]);
});

it('a start that fails is told to who began it, and the end has nothing to close', async () => {
  const { life, said } = lifeOfTest();
  await expect(life.begin(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await life.end(undefined);
  expect(said).toEqual([undefined]);
});

it('tells the first thing that is wrong: the reason of the end, what closing throws, what is still there', async () => {
  const close = (): Promise<void> => Promise.reject(new Error('stuck'));
  for (const [reason, closing, told] of [
    ['a reason', close, 'a reason'],
    [undefined, close, expect.stringMatching(/^Error: stuck\n/)],
    [undefined, async () => {}, expect.stringMatching(/^still there in the end: /)],
  ] as const) {
    const { life, said } = lifeOfTest();
    await life.begin(async () => {
      life.context = createNodeAioContext();
      life.context.createTimer(() => {}).arm(60_000);
      return { close: closing };
    });
    await life.end(reason);
    expect(said).toEqual([told]);
  }
});
