// Rules that hold everywhere, and the table of rooms. JavaScript, so that the table is written once:
// `npm run lint` names this file, as oxlint looks for JSON by itself.
import { ROOMS, restrictionsOf } from './.ci/rooms.mjs';

export default {
  plugins: ['eslint', 'typescript', 'unicorn', 'oxc', 'import', 'promise', 'node'],
  env: { node: true, es2024: true },
  categories: { correctness: 'error', suspicious: 'error' },
  options: { reportUnusedDisableDirectives: 'error' },
  ignorePatterns: ['dist/**', 'coverage/**', 'node_modules/**'],
  rules: {
    // Asynchrony: a promise that nobody waits for is an error that nobody sees.
    'typescript/no-floating-promises': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/return-await': ['error', 'in-try-catch'],
    'typescript/only-throw-error': 'error',
    'typescript/prefer-promise-reject-errors': 'error',
    'typescript/use-unknown-in-catch-callback-variable': 'error',

    // Types: no any, neither written nor inherited.
    'typescript/no-explicit-any': 'error',
    'typescript/no-unsafe-argument': 'error',
    'typescript/no-unsafe-assignment': 'error',
    'typescript/no-unsafe-call': 'error',
    'typescript/no-unsafe-member-access': 'error',
    'typescript/no-unsafe-return': 'error',
    'typescript/no-non-null-assertion': 'error',
    'typescript/no-deprecated': 'error',
    'typescript/switch-exhaustiveness-check': [
      'error',
      { considerDefaultExhaustiveForUnions: true },
    ],
    'typescript/restrict-plus-operands': 'error',
    'typescript/explicit-module-boundary-types': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/consistent-type-exports': 'error',
    'typescript/consistent-type-assertions': 'error',
    'typescript/prefer-readonly': 'error',
    'typescript/ban-ts-comment': 'error',
    // A row or a parsed document is narrowed by a cast at the border; there is no other way.
    'typescript/no-unsafe-type-assertion': 'off',

    // Modules: one face per file, no circles, no barrels.
    'import/no-cycle': 'error',
    'import/no-duplicates': 'error',
    'import/no-mutable-exports': 'error',
    'import/no-default-export': 'error',
    'import/first': 'error',
    // A CommonJS package is imported whole, and its members are read from it.
    'import/no-named-as-default-member': 'off',
    'oxc/no-barrel-file': ['error', { threshold: 0 }],
    'unicorn/filename-case': ['error', { case: 'kebabCase' }],
    'unicorn/prefer-node-protocol': 'error',

    // Plain habits.
    eqeqeq: 'error',
    'no-var': 'error',
    'prefer-const': 'error',
    'no-param-reassign': 'error',
    'no-throw-literal': 'error',
    'no-self-compare': 'error',
    'no-unreachable-loop': 'error',
    'prefer-object-has-own': 'error',
    'unicorn/error-message': 'error',
    'unicorn/throw-new-error': 'error',
    'unicorn/no-abusive-eslint-disable': 'error',
    // The compiler's allowUnreachableCode and noImplicitReturns say it better: the first of these
    // rules errs about what follows a throw in a catch.
    'no-unreachable': 'off',
    'typescript/consistent-return': 'off',
    // A #private field needs no underscore, and a name given by others cannot be changed.
    'no-underscore-dangle': 'off',
    // A function that needs nothing of its surroundings may still belong to them.
    'unicorn/consistent-function-scoping': 'off',
  },
  overrides: [
    {
      files: ['src/**/*.ts'],
      rules: {
        'no-console': 'error',
        'unicorn/no-process-exit': 'error',
        // Settings come from config/, validated.
        'node/no-process-env': 'error',
      },
    },
    {
      files: ['src/cli/**'],
      rules: {
        'no-console': 'off',
        'unicorn/no-process-exit': 'off',
        'node/no-process-env': 'off',
      },
    },
    {
      // The AWS SDK is told to keep its warnings to itself by a variable only.
      files: ['src/config/**', 'src/objects/s3/client.ts'],
      rules: { 'node/no-process-env': 'off' },
    },
    { files: ['src/index.ts', 'src/payloads/payloads.ts'], rules: { 'oxc/no-barrel-file': 'off' } },
    // An override replaces the options of the rule for its files, so of several rows the last one counts.
    ...ROOMS.map((room) => ({
      files: room.files,
      rules: { 'no-restricted-imports': ['error', restrictionsOf(room)] },
    })),
    {
      // Their makers ask for a default export.
      files: ['*.config.ts', '*.config.mjs', 'test/support/closing-line-reporter.ts'],
      rules: { 'import/no-default-export': 'off' },
    },
    {
      // node-pg-migrate orders migrations by the number that their names begin with.
      files: ['migrations/*'],
      rules: { 'unicorn/filename-case': 'off' },
    },
    {
      files: ['test/**'],
      plugins: ['eslint', 'typescript', 'unicorn', 'oxc', 'import', 'promise', 'node', 'vitest'],
      rules: {
        'vitest/no-focused-tests': 'error',
        'vitest/no-identical-title': 'error',
        'vitest/valid-expect-in-promise': 'error',
        // A test may wait for a signal or prove that nothing is thrown.
        'vitest/expect-expect': 'off',
        // Set-up that needs PostgreSQL or S3 is skipped where those cannot be had.
        'vitest/no-disabled-tests': 'off',
        'vitest/no-conditional-tests': 'off',
        'vitest/require-mock-type-parameters': 'off',
        'vitest/require-to-throw-message': 'off',
        'vitest/no-conditional-expect': 'off',
      },
    },
    {
      // Plain JavaScript that runs before anything is installed has no types to go by.
      files: ['**/*.mjs', '**/*.js'],
      rules: {
        'typescript/explicit-module-boundary-types': 'off',
        'typescript/no-unsafe-argument': 'off',
        'typescript/no-unsafe-assignment': 'off',
        'typescript/no-unsafe-call': 'off',
        'typescript/no-unsafe-member-access': 'off',
        'typescript/no-unsafe-return': 'off',
      },
    },
  ],
};
