// Checks an export of `retention proof export` without any other software: node proof-check.mjs proof.jsonl [head]
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

const hash = (name, ...parts) =>
  parts.reduce((to, part) => to.update(part), createHash(name)).digest();
const sha256 = (...parts) => hash('sha256', ...parts);
const number = (n) => Buffer.from([n >>> 24, n >>> 16, n >>> 8, n]);
const faults = [];
let seal,
  results = 0,
  seals = 0,
  before = '',
  isHeadSeen = false;

function digestOf(document) {
  const salt = Buffer.from(document.salt, 'hex');
  if (document.kind === 'change') return sha256(salt, document.text);
  const groups = new Map();
  document.leaves.forEach((text, i) => {
    const own = hash('sha512', salt, number(i >> 2)).subarray(16 * (i & 3), 16 * (i & 3) + 16);
    const tenant = JSON.parse(text)[1];
    groups.set(tenant, [...(groups.get(tenant) ?? []), sha256(own, text)]);
  });
  results += document.leaves.length;
  return sha256(
    sha256(document.header),
    ...[...groups.values()].map((leaves) => sha256(...leaves)).sort(Buffer.compare),
  );
}

function endSeal() {
  if (seal && !seal.pruned)
    for (const name of seal.left.keys()) faults.push(`${name} of seal ${seal.seal} is not there`);
}

for await (const line of createInterface({ input: createReadStream(process.argv[2]) })) {
  const document = JSON.parse(line);
  if (document.kind === 'seal') {
    endSeal();
    const digests = Buffer.from(document.digests, 'hex');
    const digest = sha256(
      Buffer.from(before, 'hex'),
      sha256(document.header),
      sha256(digests),
    ).toString('hex');
    if (digest !== document.digest || document.seal !== (seals += 1))
      faults.push(`seal ${document.seal} does not hold`);
    seal = {
      ...document,
      left: new Map(
        document.members.map((name, i) => [name, digests.subarray(32 * i, 32 * i + 32)]),
      ),
    };
    before = document.digest;
    isHeadSeen ||= `${document.seal}-${before}` === process.argv[3];
  } else {
    const name = document.kind === 'change' ? `change-${document.change}` : document.receipt;
    if (
      document.text
        ? JSON.parse(document.text).change !== document.change
        : JSON.parse(document.header).receipt !== name
    )
      faults.push(`${name} says another name of itself`);
    if (!seal.left.get(name)?.equals(digestOf(document)))
      faults.push(`${name} of seal ${seal.seal} does not hold`);
    seal.left.delete(name);
  }
}
endSeal();
if (process.argv[3] && !isHeadSeen) faults.push(`no seal has the head ${process.argv[3]}`);
console.log(
  faults.length
    ? faults.join('\n')
    : `${seals} seals with ${results} results hold; the head is ${seals}-${before}`,
);
process.exit(faults.length ? 1 : 0);
