/**
 * Installs the packages that it is given; given none, it only refreshes the package lists. Runs
 * as root.
 *
 * Two guards stand while it runs, and both are gone after it however it ends: Debian's PostgreSQL
 * packages make and start a cluster on their first installation unless createcluster.d says
 * otherwise, and policy-rc.d keeps every package from starting its service. A policy that is
 * already there belongs to the machine and stays.
 *
 * DPkg::Lock::Timeout does not cover the lock of the package lists, hence the loop.
 */
export const INSTALL_SCRIPT = `
set -u
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
exec </dev/null

clusters=/etc/postgresql-common/createcluster.d
cluster_guard=$clusters/zz-retention-reactor.conf
policy=/usr/sbin/policy-rc.d
made_common= made_clusters= made_policy=

tidy() {
  rm -f "$cluster_guard"
  [ -z "$made_clusters" ] || rmdir "$clusters" 2>/dev/null
  [ -z "$made_common" ] || rmdir "\${clusters%/*}" 2>/dev/null
  [ -z "$made_policy" ] || rm -f "$policy"
}
trap tidy EXIT
trap 'exit 130' INT TERM HUP

refresh() {
  tries=0
  while :; do
    said=$(apt-get -q update 2>&1) && break
    printf '%s\\n' "$said"
    case $said in *'Could not get lock'*) ;; *) return 1 ;; esac
    tries=$((tries + 1))
    [ "$tries" -lt 150 ] || return 1
    sleep 2
  done
}

install() {
  apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \\
    install --no-install-recommends "$@" 2>&1
}

if [ "$#" -eq 0 ]; then refresh; exit; fi

[ -d "\${clusters%/*}" ] || made_common=yes
[ -d "$clusters" ] || made_clusters=yes
mkdir -p "$clusters" && echo 'create_main_cluster = false' >"$cluster_guard" || exit 1
if [ ! -e "$policy" ]; then
  made_policy=yes
  printf '#!/bin/sh\\nexit 101\\n' >"$policy" && chmod 755 "$policy" || exit 1
fi

install "$@" || { refresh; install "$@"; }
`;
