import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Answers } from './differential.ts';
import { FIXED_GROUPS, type PlayedCase, playGroup, scriptOf } from './fixed/fixed-groups.ts';
import type { Script } from './script.ts';
import type { Subject } from './subjects/subject.ts';
import type { Transcript } from './transcript.ts';

/** What a daemon that no package brings answered once to the fixed scripts. */
export interface Recording {
  readonly daemon: string;
  /** `group: case` to the digest of its script and what was answered to each step. */
  readonly cases: Readonly<Record<string, RecordedCase>>;
}

interface RecordedCase {
  readonly script: string;
  readonly transcript: Transcript;
}

/** Facts observed on a daemon built from the master branch of Xen. */
export const C_HEAD_RECORDING: URL = new URL('../recordings/c-head.golden.json', import.meta.url);

export function readRecording(file: URL): Recording {
  return JSON.parse(readFileSync(file, 'utf8')) as Recording;
}

/** Answers from a recording. Throws, naming the case, when it was made of another script. */
export function recordedAnswers(recording: Recording): Answers {
  // oxlint-disable-next-line require-await -- throws become rejections
  return async (group) =>
    group.cases.map((one): PlayedCase => {
      const script = scriptOf(group, one);
      const key = `${group.name}: ${one.name}`;
      const recorded = recording.cases[key];
      if (recorded?.script !== digestOf(script)) throw new Error(`The recording does not have: ${key}`);
      return { group: group.name, case: one, script, transcript: recorded.transcript };
    });
}

/** Plays all fixed scripts and writes what was answered. Returns the count of cases. */
export async function record(subject: Subject, daemon: string, file: URL): Promise<number> {
  const entries: [string, RecordedCase][] = [];
  for (const group of FIXED_GROUPS) {
    for (const { case: one, script, transcript } of await playGroup(group, subject)) {
      entries.push([`${group.name}: ${one.name}`, { script: digestOf(script), transcript }]);
    }
  }
  const lines = entries.map(([key, value]) => `    ${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  const text = `{\n  "daemon": ${JSON.stringify(daemon)},\n  "cases": {\n${lines.join(',\n')}\n  }\n}\n`;
  writeFileSync(file, text);
  return entries.length;
}

function digestOf(script: Script): string {
  return createHash('sha256').update(JSON.stringify(script)).digest('hex').slice(0, 12);
}
