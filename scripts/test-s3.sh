#!/bin/bash
# The S3 store that the tests need: Ceph's gateway, which is also what OpenShift Container Storage has, with all that
# is behind it, on this machine and in memory.
#
# usage: scripts/test-s3.sh                                                  installs it
#        scripts/test-s3.sh start DIR MONITOR-PORT PORT ACCESS-KEY SECRET-KEY     starts one in an empty folder
#        scripts/test-s3.sh stop DIR                                         stops it and removes the folder
#
# Made for Debian 12. Runs again in no time: what is there already is left alone. The tests start and stop one by
# themselves. With PGMIG_TEST_S3_ENDPOINT (http://...), PGMIG_TEST_S3_ACCESS_KEY and PGMIG_TEST_S3_SECRET_KEY they use
# a store that is there, and nothing has to be installed.
set -euo pipefail

say() { echo "test-s3: $*"; }
die() { echo "test-s3: error: $1" >&2; shift; printf '  hint: %s\n' "$@" >&2; exit 1; }

programs="ceph ceph-authtool ceph-mgr ceph-mon ceph-osd monmaptool radosgw radosgw-admin"
complete() { local p; for p in $programs; do command -v "$p" >/dev/null || return 1; done; }

install() {
  [ -z "${PGMIG_TEST_S3_ENDPOINT:-}" ] || return 0
  ! complete || return 0
  command -v apt-get >/dev/null || die "there is no apt-get here to install Ceph" \
    "name a store that is there with PGMIG_TEST_S3_ENDPOINT, PGMIG_TEST_S3_ACCESS_KEY and PGMIG_TEST_S3_SECRET_KEY"
  local root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "root is needed to install Ceph" "install sudo, or run this script as root"
    root=(sudo)
  fi
  # as it comes, it would start daemons of its own; without a configuration these do nothing
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0
    radosgw ceph-mon ceph-osd ceph-common ceph-mgr)
  say "installing Ceph's packages"
  "${apt[@]}" >/dev/null 2>&1 || { "${root[@]}" apt-get update -qq && "${apt[@]}" >/dev/null; } \
    || die "apt-get could not install Ceph" "read apt's message above; run \`apt-get update\` and this script again"
  complete || die "Ceph is installed, and lacks one of: $programs" "run \`apt-get install --reinstall radosgw ceph-mon ceph-osd ceph-common ceph-mgr\`"
  say "Ceph is ready: $(ceph --version)"
}

start() { # folder, monitor's port, port, access key, secret key
  local dir=$1 monitor=$2 port=$3 access=$4 secret=$5 cluster osd
  complete || die "Ceph is not installed" "run scripts/test-s3.sh"
  cd "$dir"
  mkdir mon osd rgw log mgr
  cluster=$(cat /proc/sys/kernel/random/uuid) osd=$(cat /proc/sys/kernel/random/uuid)
  cat >ceph.conf <<C
[global]
fsid = $cluster
mon host = v2:127.0.0.1:$monitor/0
auth allow insecure global id reclaim = false
mon warn on insecure global id reclaim allowed = false
ms bind msgr1 = false
ms bind ipv4 = true
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
# one of everything
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 2000
mon pg warn min per osd = 0
run dir = $dir
admin socket = $dir/\$name.asok
log file = $dir/log/\$name.log
pid file = $dir/\$name.pid
keyring = $dir/keyring
mon data = $dir/mon
mgr data = $dir/mgr
mgr initial modules =
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd journal size = 10
rgw data = $dir/rgw
# its answers would wait for the client to acknowledge their heads, 40 ms each
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw enable usage log = false
# what is removed makes room within seconds, not hours: all of it is in memory
rgw gc obj min wait = 10
rgw gc processor period = 5
C
  local ceph=(timeout 60 ceph -c ceph.conf)
  ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *'
  ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
  monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor]" --enable-all-features monmap
  ceph-mon -c ceph.conf --mkfs -i a --monmap monmap --keyring keyring
  ceph-mon -c ceph.conf -i a
  "${ceph[@]}" auth get-or-create mgr.x mon 'allow profile mgr' osd 'allow *' mds 'allow *' >>keyring
  ceph-mgr -c ceph.conf -i x
  "${ceph[@]}" osd new "$osd"
  "${ceph[@]}" auth get-or-create osd.0 mon 'allow profile osd' osd 'allow *' mgr 'allow profile osd' >>keyring
  ceph-osd -c ceph.conf -i 0 --mkfs --osd-uuid "$osd"
  ceph-osd -c ceph.conf -i 0
  timeout 120 radosgw-admin -c ceph.conf user create --uid=tests --display-name=tests "--access-key=$access" "--secret-key=$secret"
  radosgw -c ceph.conf -n client.admin --keyring keyring --pid-file "$dir/client.rgw.pid"
  local tries
  for tries in $(seq 300); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
    sleep 0.1
  done
  tail -n 20 log/*rgw* log/client.admin.log 2>/dev/null || true
  die "Ceph's gateway does not answer after $((tries / 10)) s" "its messages are above"
}

stop() { # folder
  local pid file
  for file in "$1"/*.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    # the number may be another process' by now
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "^\(ceph-\|radosgw\).*ceph.conf"; then kill -KILL "$pid" || true; fi
  done
  rm -rf "$1"
}

case ${1:-} in
  "") install ;;
  start) [ $# = 6 ] || die "start takes five arguments" "see the head of this script"; start "${@:2}" >"$2/start.log" 2>&1 || { cat "$2/start.log" >&2; exit 1; } ;;
  stop) [ $# = 2 ] || die "stop takes a folder"; stop "$2" ;;
  *) die "\`$1\` is nothing that this can do" "see the head of this script" ;;
esac
