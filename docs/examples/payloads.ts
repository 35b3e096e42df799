import { type Documents, jsonSchema, readNotification } from 'retention-reactor/payloads';

// A notification that another client of Postgres has received.
const received = '{"batch":7,"bucket":"dpp-results","cleared":998,"spared":2,"failed":0,"ms":412}';
const known = readNotification('retention_cleared', JSON.parse(received));
if (known?.channel === 'retention_cleared') console.log(`${known.payload.cleared} cleared`);

// What `retention hold list --json` has printed.
const printed = '{"holds":[]}';
const { holds } = JSON.parse(printed) as Documents['hold list'];
console.log(`${holds.length} holds`);

// For other languages; `retention schema hold list` prints the same.
console.log(JSON.stringify(jsonSchema('hold list')));
