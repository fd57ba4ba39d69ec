import { writeFileSync } from 'node:fs';
import { type Answers, type CaseResult, answersOf, compareFixed } from './differential.ts';
import { knownDifferencesOf } from './known-differences.ts';
import { type ConformanceOptions, ConformanceUsageError, USAGE, parseConformanceOptions } from './options.ts';
import { type ComparedProfile, PAGE, PAGE_PEERS, compareWithPeer, pageText } from './page.ts';
import { type Peer, type PeerName, findPeer, profileOf } from './peers.ts';
import { RANDOM_THEMES } from './random-defaults.ts';
import { runCampaign } from './random-campaign.ts';
import { C_HEAD_RECORDING, readRecording, record, recordedAnswers } from './recording.ts';
import { virtlabSubject } from './subjects/virtlab-daemon.ts';
import { virtlabSocketSubject } from './subjects/virtlab-socket.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

async function recordHead({ program }: ConformanceOptions): Promise<void> {
  const peer = findPeer('c-head', program);
  if (typeof peer === 'string') throw new Error(peer);
  const count = await record(peer.subject, 'xenstored of the master branch of Xen', C_HEAD_RECORDING);
  console.log(`${count} cases recorded`);
}

async function writePage(): Promise<void> {
  const compared: ComparedProfile[] = [];
  for (const name of PAGE_PEERS) compared.push(await compareWithPeer(name));
  const text = pageText(compared);
  writeFileSync(PAGE, text);
  console.log(`${text.split('\n').length} lines written`);
}

/** Returns the unknown differences. */
async function compareWith(name: PeerName, options: ConformanceOptions): Promise<readonly string[]> {
  const peer = findPeer(name, name === 'oxenstored' ? undefined : options.program);
  if (typeof peer === 'string' && name !== 'c-head') {
    console.log(`${name}: skipped, ${peer}`);
    return [];
  }
  const theirs =
    typeof peer === 'string' ? recordedAnswers(readRecording(C_HEAD_RECORDING)) : answersOf(peer.subject);
  const results = await compareCases(name, theirs, options);
  const failed = results.filter(({ unknown, unexpected }) => unknown.length > 0 || unexpected !== undefined);
  const shown = options.isCase ? results : failed;
  for (const result of shown) console.log(reportOf(result));
  console.log(`${name}: ${results.length} fixed cases, ${failed.length} not as expected`);
  const found = failed.map(reportOf);
  if (!options.isCase && typeof peer !== 'string') {
    for (const seed of options.seeds) {
      const report = await campaign(name, peer, seed, options);
      if (report !== undefined) found.push(report);
    }
  }
  return found;
}

async function compareCases(
  name: PeerName,
  theirs: Answers,
  { profile = profileOf(name), groups }: ConformanceOptions,
): Promise<CaseResult[]> {
  const ours = answersOf(virtlabSubject(profile));
  return await compareFixed(groups, { profile: profile.name, ours, theirs });
}

async function campaign(
  name: PeerName,
  peer: Peer,
  seed: number,
  { profile = peer.profile, stepCount }: ConformanceOptions,
): Promise<string | undefined> {
  const result = await runCampaign({
    ours: virtlabSubject(profile),
    oursToo: virtlabSocketSubject(profile),
    theirs: peer.subject,
    known: knownDifferencesOf(profile.name),
    themes: RANDOM_THEMES[name],
    seed,
    stepCount,
  });
  console.log(
    `${peer.subject.name}: ${result.stepCount} random steps in ${result.scriptCount} scripts from seed ${seed}`,
  );
  if (result.failure === undefined) return undefined;
  const report = `## random script, seed ${result.failure.seed}\n\n${result.failure.report}\n`;
  console.log(report);
  return report;
}

function reportOf({ group, name, report, unexpected }: CaseResult): string {
  const surprise = unexpected === undefined ? '' : `The real one: ${unexpected}\n`;
  return `## ${group}: ${name}\n\n${surprise}${report}\n`;
}

/** Answers the exit code. Rejects with `ConformanceUsageError`. */
async function main(args: readonly string[]): Promise<number> {
  const options = parseConformanceOptions(args, process.env);
  switch (options.task) {
    case 'help':
      process.stdout.write(USAGE);
      return 0;
    case 'record':
      await recordHead(options);
      return 0;
    case 'write':
      await writePage();
      return 0;
    case 'compare': {
      const found: string[] = [];
      for (const name of options.peerNames) found.push(...(await compareWith(name, options)));
      if (options.findings !== undefined) writeFileSync(options.findings, found.join('\n'));
      return found.length === 0 ? 0 : EXIT_FAILED;
    }
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof ConformanceUsageError)) throw error;
  process.stderr.write(`xenstore-conformance: ${error.message}\nSee --help.\n`);
  process.exitCode = EXIT_USAGE;
}
