// Writes packages/abi/src/abi.golden.json from the headers that are installed here.
import { writeFileSync } from 'node:fs';
import { GOLDEN_PATH, emitGolden, formatGolden, missingPackages } from './golden.ts';

const missing = missingPackages();
if (missing.length > 0) {
  console.error(`install the Debian packages ${missing.join(', ')} first`);
  process.exitCode = 1;
} else {
  const golden = emitGolden();
  writeFileSync(GOLDEN_PATH, formatGolden(golden));
  console.log(`${Object.keys(golden.headers).length} headers of ${JSON.stringify(golden.packages)}`);
}
