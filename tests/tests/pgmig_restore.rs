//! The whole program against real servers: what a restore gives, and what it refuses.

use std::collections::HashMap;

use pgmig_tests::awkward::{MAPPING, OldRows, Source, Store, Target};
use pgmig_tests::pgmig::Job;
use pgmig_tests::{Compression, DumpOptions};

use Compression::{Gzip, Lz4, None as Plain, Zstd};
use Store::{Latin1, Utf8, Utf8Plain};

/// A version that dumps, how, of which store; a version that takes the rows, in which store.
type Case = (u32, Compression, bool, Store, u32, Store);
const SEEKABLE: bool = false;
const PIPED: bool = true;

/// Every way of dumping, and every version, encoding and pair of encodings as a target.
#[rustfmt::skip]
const MATRIX: [Case; 20] = [
    (15, Gzip,  SEEKABLE, Utf8,      15, Utf8),
    (15, Gzip,  PIPED,    Latin1,    18, Latin1),
    (15, Plain, SEEKABLE, Latin1,    16, Utf8Plain),
    (15, Plain, PIPED,    Utf8,      17, Utf8),
    (16, Gzip,  SEEKABLE, Utf8,      16, Utf8),
    (16, Gzip,  PIPED,    Utf8Plain, 17, Latin1),
    (16, Plain, SEEKABLE, Utf8,      18, Utf8),
    (16, Plain, PIPED,    Latin1,    15, Latin1),
    (17, Plain, SEEKABLE, Utf8,      15, Utf8),
    (17, Gzip,  SEEKABLE, Utf8,      17, Utf8),
    (17, Gzip,  PIPED,    Latin1,    18, Latin1),
    (17, Lz4,   SEEKABLE, Latin1,    17, Latin1),
    (17, Lz4,   PIPED,    Utf8,      16, Utf8),
    (17, Zstd,  SEEKABLE, Utf8,      18, Utf8),
    (17, Zstd,  PIPED,    Utf8Plain, 18, Latin1),
    (18, Gzip,  PIPED,    Utf8,      15, Utf8),
    (18, Lz4,   SEEKABLE, Utf8,      18, Utf8),
    (18, Lz4,   PIPED,    Latin1,    17, Utf8Plain),
    (18, Zstd,  SEEKABLE, Latin1,    16, Latin1),
    (18, Zstd,  PIPED,    Utf8,      18, Utf8),
];

#[test]
fn every_kind_of_dump_gives_what_pg_restore_and_the_updates_give() {
    let mut expected = HashMap::new();
    for (number, &case) in MATRIX.iter().enumerate() {
        let (from, mut method, piped, from_store, to, to_store) = case;
        // the build of a version may lack lz4 and zstd
        if !pgmig_tests::PgTools::major(from).compressions().contains(&method) {
            assert!(from != 17, "{case:?}");
            method = Gzip;
        }
        let how = if piped { DumpOptions::piped() } else { DumpOptions::seekable() };
        let source = Source::dump(from, from_store, &how.compress(method));
        let expected =
            expected.entry((from, from_store, to_store)).or_insert_with(|| source.expected(to_store, &MAPPING));
        let old_rows = if number % 2 == 0 { OldRows::Some } else { OldRows::None };
        let target = Target::on(to, to_store, old_rows);
        let run = Job::new(&source.archive, &target).run(&[]);
        assert!(run.status.success(), "{case:?}: {run}");
        target.assert_restored(expected);
    }
}
