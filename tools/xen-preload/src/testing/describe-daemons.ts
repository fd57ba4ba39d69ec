import { describe } from 'vitest';
import { realXenstoredAvailability } from '../availability.ts';
import type { RealXenstoredOptions } from '../contract.ts';

const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';

/** A C daemon of another release than Debian's, to be tested as well. */
const otherProgram = process.env['VIRTLAB_XENSTORED'];

interface Candidate {
  readonly name: string;
  readonly options: RealXenstoredOptions;
  readonly missing?: string;
}

const candidates: readonly Candidate[] = [
  ...(['c', 'oxenstored'] as const).map((kind): Candidate => {
    const found = realXenstoredAvailability(kind);
    return { name: kind, options: { kind }, ...(found.status === 'missing' && { missing: found.reason }) };
  }),
  ...(otherProgram === undefined
    ? []
    : [{ name: otherProgram, options: { kind: 'c', program: otherProgram } as const }]),
];

/**
 * One `describe` for each daemon. One that is not installed is skipped with the name of the Debian package, or fails where
 * VIRTLAB_REQUIRE_PEERS=1 says that all are there.
 */
export function describeDaemons(title: string, tests: (options: RealXenstoredOptions) => void): void {
  for (const { name, options, missing } of candidates) {
    const isSkipped = missing !== undefined && !isRequired;
    if (isSkipped) console.warn(`skipped, ${name}: ${missing}`);
    describe.skipIf(isSkipped)(`${title}: ${name}`, () => {
      tests(options);
    });
  }
}
