const HISTORY_TEST = 'test/database/history.test.ts';
const THEN_TEST = 'test/database/then.test.ts';
const CHANGE = 'migrations/functions/12_change.sql';
const THEN = 'migrations/functions/28_then.sql';

/** Promise 14: who changed what, and what was true then. */
export const historyMutations = [
  {
    name: 'a deletion of what people decide is not recorded',
    promise: 14,
    edits: [
      {
        file: CHANGE,
        search:
          '  else\n    perform retention._note_change(tg_table_name, lower(tg_op), v_before, v_after);\n',
        replace:
          "  elsif tg_op <> 'DELETE' then\n    perform retention._note_change(tg_table_name, lower(tg_op), v_before, v_after);\n",
      },
    ],
    testFile: HISTORY_TEST,
    test: 'is recorded however it is written: an update by hand, a role that was set, a variable, all rows at once',
  },
  {
    name: 'what the cycle writes of a bucket is recorded as a change',
    promise: 14,
    edits: [
      {
        file: CHANGE,
        search: "  or new.learned = '{}' and old.learned <> '{}'\n",
        replace: '  or old.* is distinct from new.*\n',
      },
    ],
    testFile: HISTORY_TEST,
    test: 'but for what the cycle writes, and for an update that changes nothing, is a row',
  },
  {
    name: 'explain --at goes by the policy of today',
    promise: 14,
    edits: [
      {
        file: THEN,
        search: "case when v_name is not null then retention._row_at('policy', v_name, p_at) end;",
        replace:
          "case when v_name is not null then retention._row_at('policy', v_name, clock_timestamp()) end;",
      },
    ],
    testFile: THEN_TEST,
    test: 'says the policy with its length and who had set it, the hold, the batch and the receipt',
  },
  {
    name: 'what a claim spares was never flagged',
    promise: 14,
    edits: [
      {
        file: 'migrations/functions/09_apart.sql',
        search:
          '  perform retention._note_left(p_batch, array(select p_batch.run_ids[n] from unnest(p_spared || p_failed) n));\n',
        replace: '',
      },
    ],
    testFile: THEN_TEST,
    test: 'is the same as the history that a campaign of its own keeps',
  },
];
