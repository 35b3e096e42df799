import { quoteIdentifier } from '../../config/sql-names.ts';
import type { RoleFacts } from '../../store/diagnosis.ts';
import { type Check, failed, ok, warning } from './check.ts';

/** Who may what: the owner, and the roles that were recorded, with what each lacks or has beyond its work. */
export function checkRoles(roles: readonly RoleFacts[]): Check {
  const name = 'roles';
  const found = roles
    .map(({ role, may }) => `${may} ${role}`)
    .concat(roles.some(({ may }) => may === 'operator') ? [] : ['no operator but the owner'])
    .join(', ');
  const lacking = roles.find(({ lacks }) => lacks.length > 0);
  if (lacking !== undefined) {
    return failed(
      name,
      `${found}; ${lacking.role} lacks ${lacking.lacks.join(', ')}`,
      'As the owner of the schema: retention migrate up.',
    );
  }
  const mighty = roles.find(({ exceeds }) => exceeds.length > 0);
  if (mighty === undefined) return ok(name, found);
  return warning(
    name,
    `${found}; ${mighty.may} ${mighty.role} may also what is not for it, such as ${mighty.exceeds.slice(0, 3).join(', ')}`,
    `Grant its rights alone: retention migrate up; and where it is a superuser or a member of another role: ` +
      `alter role ${quoteIdentifier(mighty.role)} nosuperuser; revoke <that role> from ${quoteIdentifier(mighty.role)};`,
  );
}
