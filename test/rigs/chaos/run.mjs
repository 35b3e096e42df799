// `npm run test:chaos -- --seed N --minutes M`: one randomized campaign. See campaign.ts.
import { runProject } from '../run-project.mjs';

runProject('chaos', '10');
