import { type RetentionEvent, readConfig, status, subscribe } from 'retention-reactor';

const config = readConfig(process.env);

export const subscription = await subscribe({
  config,
  channels: ['retention_attention', 'retention_failed'],
  onEvent: handle,
});

async function handle(event: RetentionEvent): Promise<void> {
  switch (event.type) {
    case 'connected':
    case 'reconnected':
      // What was missed is in the tables.
      console.log(`${(await status({ config })).dead} results are dead`);
      break;
    case 'notification':
      if (event.channel === 'retention_failed') console.log(`failed: ${event.payload.code}`);
      else if (event.channel === 'retention_attention') console.log(event.payload.kind);
      break;
    case 'unknown':
      console.log(`not known to this version: ${event.channel}`);
  }
}
