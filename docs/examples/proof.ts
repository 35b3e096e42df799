import { proofHead, readConfig, verifyProof } from 'retention-reactor';

const config = readConfig(process.env);

// To be kept where those who can write to the database cannot write.
const { head } = await proofHead({ config });
const kept = head === null ? [] : [`${head.seal}-${head.digest}`];

const { holds, receipts, problems } = await verifyProof({ config, heads: kept });
console.log(holds ? `${receipts} receipts hold` : problems.map(({ message }) => message));
