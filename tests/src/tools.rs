//! The programs of one PostgreSQL version, and dumping and restoring with them.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use tempfile::{TempDir, TempPath};

use crate::Server;

/// The versions of PostgreSQL whose archives we read and write: all those that `scripts/test-servers.sh` installs.
pub const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// The programs of one major version of PostgreSQL.
#[derive(Debug, Clone)]
pub struct PgTools {
    major: u32,
    bin: PathBuf,
}

impl PgTools {
    /// The programs of PostgreSQL `major`: those in `PG_BIN` if they are of that version, otherwise
    /// those that `scripts/test-servers.sh` installed.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn major(major: u32) -> Self {
        if let Some(bin) = env::var_os("PG_BIN").map(PathBuf::from)
            && version_of(&bin.join("postgres")) == Some(major)
        {
            return Self { major, bin };
        }
        let bin = cache().join("pg").join(major.to_string()).join("bin");
        assert!(
            bin.join("postgres").exists(),
            "PostgreSQL {major} is not in `{}`: run `scripts/test-servers.sh {major}`",
            bin.display()
        );
        Self { major, bin }
    }

    /// The major version, for example 17.
    pub fn version(&self) -> u32 {
        self.major
    }

    /// The path of one program, for example of `pg_dump`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Whether this `pg_restore` puts a script between `\restrict` and `\unrestrict`, with a key that can be given. All
    /// releases since August 2025 do.
    pub fn writes_restrict(&self) -> bool {
        static KNOWN: [OnceLock<bool>; 32] = [const { OnceLock::new() }; 32];
        *KNOWN[self.major as usize].get_or_init(|| {
            let help = Command::new(self.program("pg_restore")).arg("--help").output().expect("pg_restore runs");
            String::from_utf8_lossy(&help.stdout).contains("--restrict-key")
        })
    }

    /// The compressions that this `pg_dump` really writes.
    ///
    /// lz4 and zstd came with version 16, and a build may lack them (the one that the tests use for
    /// 16 does). Versions before 16 take the options without a word and write no compression at all.
    pub fn compressions(&self) -> Vec<Compression> {
        let mut all = vec![Compression::None, Compression::Gzip];
        if self.major >= 16 {
            all.extend([Compression::Lz4, Compression::Zstd].into_iter().filter(|method| self.supports(*method)));
        }
        all
    }

    // The option is checked before the connection is tried, so a server that cannot be there is enough.
    fn supports(&self, method: Compression) -> bool {
        let probe = Command::new(self.program("pg_dump"))
            .args(["-Fc", "-h", "/nonexistent", "-d", "none"])
            .arg(method.option())
            .output()
            .expect("pg_dump runs");
        !String::from_utf8_lossy(&probe.stderr).contains("does not support compression")
    }

    /// Dumps a database in the directory format. The folder is removed when the returned value is dropped.
    ///
    /// # Panics
    ///
    /// As for [`dump`](Self::dump).
    pub fn dump_folder(&self, server: &Server, database: &str, how: &DumpOptions) -> TempDir {
        let folder = tempfile::Builder::new().prefix("pgmig-").tempdir_in(server.folder()).expect("a temporary folder");
        let mut dump = server.client(self, "pg_dump", database);
        dump.args(["-Fd", "--no-sync"]).args(how.compression.map(Compression::option)).args(&how.args);
        let output = dump.arg("-f").arg(folder.path()).output().expect("pg_dump runs");
        expect_success(&format!("pg_dump of `{database}`"), &output);
        folder
    }

    /// Dumps a database as a custom archive, unless the options say as a tar. The file is removed when the returned path is dropped.
    ///
    /// # Panics
    ///
    /// When `pg_dump` fails or cannot write the compression that is asked for.
    pub fn dump(&self, server: &Server, database: &str, how: &DumpOptions) -> TempPath {
        if let Some(method) = how.compression {
            assert!(self.compressions().contains(&method), "pg_dump {} here cannot write {method:?}", self.major);
        }
        // In the server's folder, which goes when the process ends: a dump held in a `static` is never dropped.
        let mut file = tempfile::Builder::new();
        file.prefix("pgmig-").suffix(".dump");
        let file = file.tempfile_in(server.folder()).expect("a temporary file");
        let (mut file, path) = file.into_parts();
        let mut dump = server.client(self, "pg_dump", database);
        dump.args([if how.tar { "-Ft" } else { "-Fc" }, "--no-sync"])
            .args(how.compression.map(Compression::option))
            .args(&how.args);
        let output = match how.to {
            Destination::File => dump.arg("-f").arg(&*path).output().expect("pg_dump runs"),
            Destination::Pipe => {
                // A real pipe, not a file as standard output: pg_dump would notice that it can seek in that.
                let mut child = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pg_dump starts");
                let copied = io::copy(&mut child.stdout.take().expect("stdout is piped"), &mut file);
                let output = child.wait_with_output().expect("pg_dump ends");
                copied.expect("the dump is written");
                output
            }
            Destination::Redirected => dump.stdout(file).output().expect("pg_dump runs"),
            Destination::Appended => {
                let file = File::options().append(true).open(&path).expect("the file is there");
                dump.stdout(file).output().expect("pg_dump runs")
            }
        };
        expect_success(&format!("pg_dump of `{database}`"), &output);
        path
    }

    /// Restores an archive with `pg_restore`, which stops at the first error.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn restore(&self, server: &Server, database: &str, archive: &Path, args: &[&str]) {
        let output = server
            .client(self, "pg_restore", database)
            .args(["--exit-on-error"])
            .args(args)
            .arg(archive)
            .output()
            .expect("pg_restore runs");
        expect_success(&format!("pg_restore into `{database}`"), &output);
    }
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib streams, in every version.
    Gzip,
    /// LZ4 frames, from 16 on.
    Lz4,
    /// zstd frames, from 16 on.
    Zstd,
}

impl Compression {
    fn option(self) -> &'static str {
        match self {
            // a number is understood by every version
            Self::None => "-Z0",
            Self::Gzip => "-Z6",
            Self::Lz4 => "-Zlz4",
            Self::Zstd => "-Zzstd",
        }
    }
}

/// How a dump is taken: into a file, compressed as `pg_dump` sees fit, unless said otherwise.
#[derive(Debug, Clone, Default)]
pub struct DumpOptions {
    to: Destination,
    compression: Option<Compression>,
    tar: bool,
    args: Vec<String>,
}

// Where `pg_dump` writes.
#[derive(Debug, Clone, Copy, Default)]
enum Destination {
    #[default]
    File,
    Pipe,
    Redirected,
    Appended,
}

impl DumpOptions {
    /// Into a file in which `pg_dump` can seek, so that the archive knows where its entries are.
    pub fn seekable() -> Self {
        Self::default()
    }

    /// Through a pipe, as through `oc exec`: the archive does not know where its entries are.
    pub fn piped() -> Self {
        Self { to: Destination::Pipe, ..Self::default() }
    }

    /// Into a file as standard output, as `>` does it. From 16 on, `pg_dump` means to write where its
    /// entries are over the begin of the file, but it lands at the end.
    pub fn redirected() -> Self {
        Self { to: Destination::Redirected, ..Self::default() }
    }

    /// Onto the end of an empty file as standard output, as `>>` does it. What [`redirected`](Self::redirected)
    /// tells of 16 then happens in every version.
    pub fn appended() -> Self {
        Self { to: Destination::Appended, ..Self::default() }
    }

    /// In the tar format, which knows no compression.
    #[must_use]
    pub fn tar(mut self) -> Self {
        self.tar = true;
        self
    }

    /// With this compression.
    #[must_use]
    pub fn compress(mut self, method: Compression) -> Self {
        self.compression = Some(method);
        self
    }

    /// With one more argument for `pg_dump`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }
}

/// The folder in which `scripts/test-servers.sh` installs; the rule is told there. What takes long
/// to make and is the same every time can be kept in it.
///
/// # Panics
///
/// When there is no home folder to look in.
pub fn cache() -> PathBuf {
    if let Some(cache) = env::var_os("PGMIG_TEST_CACHE").filter(|cache| !cache.is_empty()) {
        cache.into()
    } else if is_root() {
        "/var/cache/pgmig-test".into()
    } else {
        let base = env::var_os("XDG_CACHE_HOME").filter(|base| !base.is_empty());
        base.map_or_else(|| env::home_dir().expect("a home").join(".cache"), PathBuf::from).join("pgmig-test")
    }
}

/// Whether this process is root's: PostgreSQL then runs as another user.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

pub(crate) fn expect_success(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn version_of(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?.parse().ok()
}
