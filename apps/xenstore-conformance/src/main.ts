import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Answers, type CaseResult, answersOf, compareFixed } from './differential.ts';
import { FIXED_GROUPS } from './fixed/fixed-groups.ts';
import { knownDifferencesOf } from './known-differences.ts';
import { type ComparedProfile, PAGE, PAGE_PEERS, compareWithPeer, pageText } from './page.ts';
import { type Peer, type PeerName, findPeer, profileNamed, profileOf } from './peers.ts';
import { RANDOM_STEP_COUNT, RANDOM_THEMES, randomSeeds } from './random-defaults.ts';
import { runCampaign } from './random-campaign.ts';
import { C_HEAD_RECORDING, readRecording, record, recordedAnswers } from './recording.ts';
import { virtlabSubject } from './subjects/virtlab-daemon.ts';
import { virtlabSocketSubject } from './subjects/virtlab-socket.ts';

const USAGE = `npm run xenstore-conformance -- [options]

  --daemon c|oxenstored|c-head   whom to compare with; default c, oxenstored and the recording of c-head
  --program FILE                 another program than Debian's; needed for c-head unless the recording is enough
  --profile NAME                 our profile; default the one that imitates the daemon
  --seed N, --steps N            random scripts: first seed (VIRTLAB_SEED, or those of the tests), steps from each
                                 (2500 x VIRTLAB_CAMPAIGN)
  --case TEXT                    only fixed cases whose "group: name" contains it; prints both transcripts
  --record c-head                writes the answers of --program to the recording
  --write                        writes docs/xenstore-conformance.md
  --findings FILE                writes every unknown difference to a file
`;

const { values } = parseArgs({
  options: {
    daemon: { type: 'string' },
    program: { type: 'string' },
    profile: { type: 'string' },
    seed: { type: 'string' },
    steps: { type: 'string' },
    case: { type: 'string' },
    record: { type: 'string' },
    write: { type: 'boolean' },
    findings: { type: 'string' },
    help: { type: 'boolean' },
  },
});

function peerNames(): readonly PeerName[] {
  switch (values.daemon) {
    case undefined:
      return ['c', 'oxenstored', 'c-head'];
    case 'c':
    case 'oxenstored':
    case 'c-head':
      return [values.daemon];
    default:
      throw new RangeError(`--daemon ${values.daemon}`);
  }
}

async function recordHead(): Promise<void> {
  if (values.record !== 'c-head') throw new RangeError(`--record ${values.record}: only c-head is recorded`);
  const peer = findPeer('c-head', values.program);
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

/** Returns the count of unknown differences. */
async function compareWith(name: PeerName): Promise<number> {
  const peer = findPeer(name, name === 'oxenstored' ? undefined : values.program);
  if (typeof peer === 'string' && name !== 'c-head') {
    console.log(`${name}: skipped, ${peer}`);
    return 0;
  }
  const theirs =
    typeof peer === 'string' ? recordedAnswers(readRecording(C_HEAD_RECORDING)) : answersOf(peer.subject);
  const results = await compareCases(name, theirs);
  const failed = results.filter(({ unknown, unexpected }) => unknown.length > 0 || unexpected !== undefined);
  const shown = values.case === undefined ? failed : results;
  for (const result of shown) console.log(reportOf(result));
  console.log(`${name}: ${results.length} fixed cases, ${failed.length} not as expected`);
  const found = failed.map(reportOf);
  if (values.case === undefined && typeof peer !== 'string') {
    for (const seed of randomSeeds(values.seed ?? process.env['VIRTLAB_SEED'])) {
      const report = await campaign(name, peer, seed);
      if (report !== undefined) found.push(report);
    }
  }
  if (values.findings !== undefined) writeFileSync(values.findings, found.join('\n'));
  return found.length;
}

async function compareCases(name: PeerName, theirs: Answers): Promise<CaseResult[]> {
  const profile = values.profile === undefined ? profileOf(name) : profileNamed(values.profile);
  const ours = virtlabSubject(profile);
  const wanted = values.case;
  if (wanted === undefined) {
    return compareFixed(FIXED_GROUPS, { profile: profile.name, ours: answersOf(ours), theirs });
  }
  const groups = FIXED_GROUPS.map((group) => ({
    ...group,
    cases: group.cases.filter((one) => `${group.name}: ${one.name}`.includes(wanted)),
  })).filter(({ cases }) => cases.length > 0);
  if (groups.length === 0) throw new RangeError(`No case contains ${wanted}`);
  return compareFixed(groups, { profile: profile.name, ours: answersOf(ours), theirs });
}

async function campaign(name: PeerName, peer: Peer, seed: number): Promise<string | undefined> {
  const profile = values.profile === undefined ? peer.profile : profileNamed(values.profile);
  const factor = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
  const result = await runCampaign({
    ours: virtlabSubject(profile),
    oursToo: virtlabSocketSubject(profile),
    theirs: peer.subject,
    known: knownDifferencesOf(profile.name),
    themes: RANDOM_THEMES[name],
    seed,
    stepCount: Number(values.steps ?? RANDOM_STEP_COUNT * factor),
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

if (values.help === true) console.log(USAGE);
else if (values.record !== undefined) await recordHead();
else if (values.write === true) await writePage();
else {
  let count = 0;
  for (const name of peerNames()) count += await compareWith(name);
  process.exitCode = count === 0 ? 0 : 1;
}
