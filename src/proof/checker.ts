/** What checks a certificate where this product is not: plain Node, no packages. At most 40 lines. */
const CHECKER = String.raw`import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
const sha = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const hex = (text) => Buffer.from(text, 'hex');
const must = (holds, what) => holds || (console.error('DOES NOT HOLD: ' + what), process.exit(1));
function* linesOf(file, bytes = readFileSync(file)) {
  for (let at = 0, end; at < bytes.length; at = end + 1)
    yield bytes.toString('utf8', at, (end = bytes.includes(10, at) ? bytes.indexOf(10, at) : bytes.length));
}
const signed = readFileSync('certificate.json'), key = createPublicKey(readFileSync('public-key.pem'));
must(verify(null, signed, key, readFileSync('signature')), 'the signature of certificate.json');
const it = JSON.parse(signed), { population, beside, head, scope } = it, known = new Map(), leaves = new Set();
for (const [file, digest] of Object.entries(it.files)) must(sha(readFileSync(file)).equals(hex(digest)), file);
let digest, seal, names, text = '', members = 0, shown = 0, left = { population: { ...population.results }, beside: { ...beside.results } };
for (const line of linesOf('leaves.jsonl')) {
  const row = JSON.parse(line), header = row.header && JSON.parse(row.header), { receipt } = header ?? {};
  if (row.change) known.set('change-' + row.change, sha(hex(row.salt), row.text));
  else if (receipt) { // The leaves of the tenant make its group, and with the groups of others they make the receipt.
    for (const leaf of row.leaves) leaves.add(receipt + (scope.keys ? JSON.stringify(JSON.parse(leaf[1])) : ''));
    const own = row.leaves.map((leaf) => ++shown && (scope.keys ? sha(hex(leaf[0]), leaf[1]) : hex(leaf)));
    known.set(receipt, sha(sha(row.header), ...[sha(...own), ...row.others.map(hex)].sort(Buffer.compare)));
  } else { // A seal: the one before, its header, and its members.
    const digests = row.members?.map((name) => (known.has(name) ? ++members && known.get(name) : hex(name)));
    must(header.seal === (seal = (seal ?? header.seal - 1) + 1), 'the order of the seals at ' + header.seal);
    digest = sha(digest ?? hex(row.previous ?? ''), sha(row.header), digests ? sha(...digests) : hex(row.body));
  }
}
must(members === known.size && shown === it.leaves, 'the number of receipts and of leaves');
must(digest ? digest.equals(hex(head.digest)) && seal === head.seal : known.size === 0, 'the head');
for (const line of linesOf('results.csv')) {
  if ((text += (text && '\n') + line).split('"').length % 2 === 0) continue; // A line break within quotes.
  const cells = [...text.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,\r]*))/g)].map(([, q, p]) => q?.replaceAll('""', '"') ?? p);
  const row = Object.fromEntries((names ??= cells).map((name, place) => [name, cells[place]])), last = row.version || null;
  const leaf = row.receipt + (scope.keys ? JSON.stringify([row.run_id, scope.tenant, row.key, row.end, last, row.retain || null]) : '');
  must(row.sealed !== 'yes' || leaves.has(leaf), 'the receipt of run ' + row.run_id), (text = '');
  if (names !== cells) left[row.part][row.category] -= 1;
}
const rest = Object.values(population.results).reduce((sum, number) => sum - number, population.counted);
must([rest, ...Object.values(left.population), ...Object.values(left.beside)].every((number) => number === 0), 'a count');
console.log('All of it holds, on the head ' + (head ? head.seal + '-' + head.digest : 'of no seal'));`;

const OPENSSL =
  'openssl pkeyutl -verify -pubin -inkey public-key.pem -rawin -in certificate.json -sigfile signature';

/** The text of CHECK.md: how a certificate is checked, and what that shows. */
export function describeCheck(options: {
  readonly hasKeys: boolean;
  readonly fingerprint: string;
}): string {
  const shown = options.hasKeys
    ? `Each result that went is a leaf in \`leaves.jsonl\`: its salt, and its text
\`[run, tenant, key, end, version, retain]\`. Of other tenants there are salted digests, from which nothing can be guessed.`
    : `This certificate was made without keys. \`leaves.jsonl\` holds the digest of each leaf and neither its text nor its salt,
so no key can be guessed from it. What can be checked: that so many results of this tenant are in each receipt, and that the receipts
are in the seals. What cannot: which leaf is which run. For a sample, ask for its salt and its text: an export
of all seals has them.`;
  return `# How to check this certificate

Nothing of the product that made it is needed.

1. Compare the key. \`public-key.pem\` lies in this folder, so anybody could have put it there. Its SHA-256 is

       ${options.fingerprint}

   Ask the person who gave you the certificate, by another way, for theirs: the two must be the same.

2. Check the signature, with OpenSSL 3:

   \`\`\`sh
   ${OPENSSL}
   \`\`\`

3. Check the rest, with Node 20 or later. Save this as \`check.mjs\` in this folder and run \`node check.mjs\`:

   \`\`\`js
${CHECKER.replaceAll(/^(?=.)/gmu, '   ')}
   \`\`\`

4. Compare the head, the last line that it prints, with one that was written down elsewhere: heads are announced as they are made. Only that shows
   that the owner of the database has not rewritten all of it.

## What is checked

- \`certificate.json\` is as it was signed. It names the SHA-256 of every other file.
- \`results.csv\` has a line for each result. Their number by category is the one that the certificate says, and its sum is what
  the query of the population counted: the difference is 0.
- Each line that names a sealed receipt has its leaf.
- Leaves make groups, groups make receipts, receipts make seals, and seals make the head:

      leaf    = SHA-256(salt, text)
      group   = SHA-256(the leaves of a tenant, in their order)
      receipt = SHA-256(SHA-256(header), the groups, ordered by their bytes)
      change  = SHA-256(salt, text)
      seal    = SHA-256(the seal before, SHA-256(header), SHA-256(the digests of its members))

${shown}

Of what is not sealed yet (\`sealed\` is \`no\`) nothing is proven: ask for a certificate a few minutes later.
`;
}
