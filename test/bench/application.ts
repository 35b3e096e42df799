import pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { quantile } from './figure.ts';
import { answerQuestions } from './processes.ts';

/*
The application beside the reactor: short updates of single rows that are not due, a few at a time, at
an even pace, as an application has that is not itself at its limit.
*/

const SESSIONS = 4;
const PACE_MILLISECONDS = 4;
const UPDATE = 'update runs set updated_at = now() where run_id = $1';

let sessions: pg.Client[] = [];
let runIds: readonly string[] = [];
let measuring = new AbortController();
let measured: Promise<number[][]> | undefined;

async function prepare(url: string): Promise<void> {
  sessions = await Promise.all(
    Array.from({ length: SESSIONS }, async () => {
      const session = new pg.Client({ connectionString: url });
      await session.connect();
      return session;
    }),
  );
  const found = await sessions[0]?.query<{ run_id: string }>(
    `select run_id from runs where completed_at > now() - interval '25 days' order by run_id limit 50000`,
  );
  runIds = found?.rows.map((row) => row.run_id) ?? [];
  measure();
  await delay(500);
  await stop();
}

function measure(): void {
  const { signal } = (measuring = new AbortController());
  measured = Promise.all(sessions.map((session) => update(session, signal)));
}

async function update(session: pg.Client, stopped: AbortSignal): Promise<number[]> {
  const milliseconds: number[] = [];
  while (!stopped.aborted) {
    const runId = runIds[Math.floor(Math.random() * runIds.length)];
    const startedAt = performance.now();
    await session.query({ name: 'update', text: UPDATE, values: [runId] });
    const took = performance.now() - startedAt;
    milliseconds.push(took);
    await delay(Math.max(PACE_MILLISECONDS - took, 0));
  }
  return milliseconds;
}

async function stop(): Promise<{ p50: number; p99: number; updates: number }> {
  measuring.abort();
  const milliseconds = (await measured)?.flat() ?? [];
  return {
    p50: quantile(milliseconds, 0.5),
    p99: quantile(milliseconds, 0.99),
    updates: milliseconds.length,
  };
}

async function end(): Promise<void> {
  await Promise.all(sessions.splice(0).map((session) => session.end()));
}

answerQuestions(async (question: { prepare?: string; go?: 'start' | 'stop' | 'end' }) => {
  if (question.prepare !== undefined) return prepare(question.prepare);
  if (question.go === 'start') return measure();
  if (question.go === 'stop') return stop();
  return end();
});
