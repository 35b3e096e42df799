// `npm run test:long -- --seed N --minutes M`: steady work with faults. See long-run.ts.
import { runProject } from '../support/run-project.mjs';

runProject('long', '60');
