import { sayFailure } from '../../failure-words.ts';
import type { BucketDescription, BucketInspection, IamStatement } from '../../objects/abilities.ts';
import { causeOfDenial, DENIAL_REMEDIES } from '../../objects/denials.ts';
import type { StoreHabits } from '../../objects/store-habits.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import { type Check, failed, ok, warning } from './check.ts';

/** What the look at the right to delete needs. */
interface RightToCheck {
  readonly onVersioned: 'marker' | 'purge';
  readonly description: BucketDescription;
  readonly inspection: BucketInspection;
  readonly reader: Diagnosis | undefined;
  readonly habits: StoreHabits;
}

/** Whether objects of a bucket, and their versions, may be deleted. */
export async function checkDeleteRight(
  name: string,
  { onVersioned, description, inspection, reader, habits }: RightToCheck,
): Promise<readonly Check[]> {
  const title = `bucket ${name}: right to delete`;
  // A policy may give the right under the results' prefix only.
  const [sample] = (await reader?.sampleKeys(name, 1)) ?? [];
  const prefix = sample === undefined ? '' : sample.slice(0, sample.indexOf('/') + 1);
  const right = await inspection.probeDeleteRight(name, { prefix, habits });
  const where = prefix === '' ? '' : ` under ${prefix}`;
  if (!right.ok) {
    const { code, reason, missingStatement } = right;
    return [
      failed(
        title,
        `a key${where} that does not exist could not be deleted: ${sayFailure(code, reason)}`,
        missingStatement === undefined
          ? remedyOf(code, reason)
          : `Allow it: ${JSON.stringify(inPartition(description.region, missingStatement))}`,
      ),
    ];
  }
  const left =
    right.leftMarker === undefined
      ? ''
      : `; the probe left a delete marker at ${right.leftMarker.key}`;
  const isVersioned =
    description.versioning === 'enabled' || description.versioning === 'suspended';
  if (isVersioned && right.versions === 'refused') {
    const found = `objects${where} may be deleted, their versions may not${left}`;
    const remedy = grantIt(description.region, `${name}/${prefix}*`, 's3:DeleteObjectVersion');
    return [
      onVersioned === 'purge'
        ? failed(title, found, remedy)
        : warning(title, `${found}: they cannot be restored`, remedy),
    ];
  }
  return [
    ok(
      title,
      `granted${where}${right.versions === 'granted' ? ', for versions as well' : ''}${left}`,
    ),
  ];
}

function remedyOf(code: string, reason: string): string {
  const cause = causeOfDenial(code, reason);
  return cause === undefined ? 'Fix this, and run doctor again.' : DENIAL_REMEDIES[cause];
}

/** The remedy for a right that is missing on a bucket, or on the objects that a pattern names. */
export function grantIt(region: string | undefined, resource: string, action: string): string {
  const statement: IamStatement = {
    Effect: 'Allow',
    Action: [action],
    Resource: [`arn:aws:s3:::${resource}`],
  };
  return `Allow it: ${JSON.stringify(inPartition(region, statement))}`;
}

/** By the beginning of a region's name; all others are `aws`. (AWS SDK: endpoints, partitions.json) */
const PARTITIONS: readonly (readonly [region: string, partition: string])[] = [
  ['cn-', 'aws-cn'],
  ['us-gov-', 'aws-us-gov'],
  ['us-iso-', 'aws-iso'],
  ['us-isob-', 'aws-iso-b'],
  ['eu-isoe-', 'aws-iso-e'],
  ['us-isof-', 'aws-iso-f'],
  ['eu-isof-', 'aws-iso-f'],
  ['eusc-', 'aws-eusc'],
];

/** A statement with its resources in the partition of a region. */
function inPartition(region: string | undefined, statement: IamStatement): IamStatement {
  const [, partition = 'aws'] = PARTITIONS.find(([begin]) => region?.startsWith(begin)) ?? [];
  const resources = statement.Resource.map((it) => it.replace(/^arn:aws:/u, `arn:${partition}:`));
  return { ...statement, Resource: resources };
}
