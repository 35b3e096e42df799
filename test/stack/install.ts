// `npm run packages -- [PART ...]`: installs what the suite needs from the distribution and lacks, or
// only these parts of the list in packages.ts.
import { installParts, neededParts } from './install-parts.ts';
import { namesOf } from './package-plan.ts';
import { PARTS } from './packages.ts';

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !Object.hasOwn(PARTS, name));
if (unknown.length > 0) {
  console.error(`No such part: ${unknown.join(', ')}. There are: ${Object.keys(PARTS).join(', ')}`);
  process.exit(2);
}

const needed = neededParts();
const parts = asked.length === 0 ? needed : needed.filter((name) => asked.includes(name));
try {
  await installParts(parts, (line) => console.log(line));
  console.log(`Here: ${namesOf(parts)}.`);
} catch (error) {
  const isCi = process.env['CI'] === 'true';
  const reason = error instanceof Error ? error.message : String(error);
  console.error(
    `${reason}\n${isCi ? 'With CI=true this is a failure.' : 'Tests of what is missing are skipped.'}`,
  );
  if (isCi) process.exitCode = 1;
}
