#!/bin/bash
# Makes the real archives and plain dumps among the seeds of the fuzz targets anew: one small database, dumped by each pg_dump in
# several ways. They are in the tree; run this when there is something to add to them.
#
# usage: scripts/fuzz-seeds.sh      (after scripts/test-servers.sh)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seeds=$PWD/crates/dumpfmt/fuzz/seeds/archives
if [ -n "${PGMIG_TEST_CACHE:-}" ]; then cache=$PGMIG_TEST_CACHE
elif [ "$(id -u)" = 0 ]; then cache=/var/cache/pgmig-test
else cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgmig-test; fi
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid postgres --regid postgres --init-groups "$@"; else "$@"; fi; }

schema="
  create schema \"my schema\";
  create table t (id integer primary key, name text default 'a''b', n bigint[]) with (fillfactor = 90);
  insert into t values (1, E'a\tb\\\\\n', '{1,2}'), (2, null, null), (3, '', '{}');
  create table \"my schema\".\"T\" (id integer references t on delete cascade, day date) partition by range (day);
  create table p partition of \"my schema\".\"T\" for values from ('2024-01-01') to ('2025-01-01');
  insert into p values (1, '2024-05-06');
  create domain d as varchar(36)[] check (value is not null);
  create sequence s start 42;
  comment on table t is 'it is a table';
  grant select on t to public;
  select lo_from_bytea(7, 'large object'), lo_from_bytea(4294967295, ''), lo_from_bytea(3000000000, repeat('x', 100)::bytea);
  grant select on large object 7 to public;
"

dir=$(mktemp -d "${TMPDIR:-/tmp}/pgmig-seeds-XXXXXX")
trap 'as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
plain=$(dirname "$seeds")/plain
mkdir -p "$seeds" "$plain"
for major in 15 16 17 18; do
  bin=$cache/pg/$major/bin
  (
    cd /
    rm -rf "$dir/data"
    as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >/dev/null
    as_postgres "$bin/pg_ctl" -w -D "$dir/data" -l "$dir/log" -o "-k $dir -c listen_addresses= -c fsync=off" start >/dev/null
    "$bin/psql" -XAtq -h "$dir" -U postgres -v ON_ERROR_STOP=1 -c "$schema" postgres >/dev/null
    dump() { "$bin/pg_dump" -h "$dir" -U postgres "$@" postgres; }
    case $major in
      15) dump -f "$plain/pg15"; dump -Fc -Z0 -f "$seeds/pg15-none"; dump -Fc | cat >"$seeds/pg15-gzip-piped"; dump -Ft -f "$seeds/pg15-tar" ;;
      16) dump -Fc >"$seeds/pg16-gzip-redirected"; dump -Fc -Z0 --inserts -f "$seeds/pg16-inserts" ;;
      17) dump -Fc -Zlz4 -f "$seeds/pg17-lz4"; dump -Fc -Zzstd | cat >"$seeds/pg17-zstd-piped" ;;
      18) dump --inserts -f "$plain/pg18-inserts"; dump -Fc -Z0 -f "$seeds/pg18-none"; dump -Fc -Zzstd -f "$seeds/pg18-zstd"; dump -Fc -Z0 --statistics -t t -f "$seeds/pg18-statistics" ;;
    esac
    as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null
  )
done
