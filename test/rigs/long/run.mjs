// `npm run test:long -- --seed N --minutes M`: steady work with faults. See long-run.ts.
import { runProject } from '../run-project.mjs';

runProject('long', '60');
