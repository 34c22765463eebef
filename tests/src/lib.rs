//! What the whole-program tests stand on: real PostgreSQL servers that live as long as a test,
//! dumps of them by the real `pg_dump`, a checksum of everything in a database, and a connection
//! that can be cut at a chosen byte.
//!
//! `scripts/test-servers.sh` installs the programs. Everything here panics with a message that
//! says what to do: a test has nothing better to do with an error.
//!
//! ```no_run
//! use pgmig_tests::{Compression, DumpOptions, Fingerprint, PgTools, Server};
//!
//! let tools = PgTools::major(17);
//! let server = Server::start(&tools);
//! server.create_database("source", "UTF8");
//! server.psql("source", "create table t as select generate_series(1, 10) n");
//! let archive = tools.dump(&server, "source", &DumpOptions::piped().compress(Compression::Zstd));
//!
//! server.create_database("target", "UTF8");
//! tools.restore(&server, "target", &archive, &[]);
//! Fingerprint::of(&server, "source").assert_same(&Fingerprint::of(&server, "target"));
//! ```

pub mod awkward;
pub mod backup;
mod fingerprint;
pub mod pgmig;
mod postgres;
mod proxy;
pub mod resource_controller;
mod restored;
pub mod s3;
mod tls;
mod tools;

use std::{
    env,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub use fingerprint::Fingerprint;
pub use postgres::{Server, ServerOptions, Tls};
pub use proxy::{CutProxy, Piece};
pub use restored::Restored;
pub use tls::write_certificates;
pub use tools::{Compression, DumpOptions, MAJORS, PgTools, cache};

// The examples of the README are compiled, like those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The path of a file in `tests/fixtures`.
///
/// # Panics
///
/// When there is no such file.
pub fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    assert!(path.exists(), "there is no fixture `{}`", path.display());
    path
}

/// Whether the tests are to try everything, which takes many times as long: `PGMIG_TEST_THOROUGH=1`.
pub fn thorough() -> bool {
    env::var_os("PGMIG_TEST_THOROUGH").is_some_and(|value| value != "0")
}

/// Waits for something that comes soon, however slow the machine is.
///
/// # Panics
///
/// When it has not come after a minute.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited a minute, and still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
