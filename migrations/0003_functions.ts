import type { MigrationBuilder } from 'node-pg-migrate';
import { installFunctions, uninstallFunctions } from './support/functions.ts';

export const up = (pgm: MigrationBuilder): Promise<void> => installFunctions(pgm);
export const down = (pgm: MigrationBuilder): Promise<void> => uninstallFunctions(pgm);
