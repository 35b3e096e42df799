import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { openStory } from '../support/document-story.ts';

describeDatabase('the page about orphans', () => {
  const stack = useCliStack();

  test('goes as written', async () => {
    const guide = openStory('docs/orphans.md', {
      databaseUrl: () => stack.database().url,
      variables: { ...stack.env({ S3_RESULT_BUCKET: 'dpp-results' }) },
    });
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 48 * 3_600_000);
    await stack.insertResults({ count: 20, completedAgo: '5 days' });
    stack.s3().putObject('dpp-results', 'results/orphan');
    vi.mocked(Date.now).mockRestore();
    const listed = await guide.run('retention orphans --list orphans.jsonl --prefix results/');
    expect(listed.stdout).toContain('1 of 21 objects in dpp-results belong to no run');
    const command = 'retention orphans --delete --list orphans.jsonl';
    const early = await guide.type(command, { code: 3 });
    expect(early.stderr).toContain('at least an hour old');
    await stack
      .database()
      .query(`update retention.orphan_list set made_at = made_at - interval '1 hour'`);
    const deleted = await guide.run(command);
    expect(deleted.stdout).toContain('1 deleted');
    expect(stack.s3().hasObject('dpp-results', 'results/orphan')).toBe(false);
    expect(existsSync(join(guide.folder, 'orphans.jsonl.progress'))).toBe(true);
    guide.text('await listOrphans');
    guide.end();
  });
});
