//! `pg_dump` as a child process, its dump verified on its way.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use pgmig_core::connection::{SslMode, TargetConfig};
use secrecy::ExposeSecret as _;
use storage_backends::{NewObject, ObjectFormat};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::mpsc;

use super::dump::{DumpVerifier, VerifiedDump};
use crate::config::{PgDump, PostgresqlSource};
use crate::failure::Failure;

/// What is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// How much pg_dump may write before it waits for us: it writes a few KiB at once, and each change to the other side takes time.
const PIPE_BYTES: usize = 1 << 20;
/// How long it is left alone when it had written little.
const PAUSE: Duration = Duration::from_millis(2);
/// How many pieces may wait to be stored.
const WAITING: usize = 4;
/// How many of the last lines of its standard error are kept.
const LINES: usize = 20;
/// How long they are waited for when it has ended.
const AFTER_END: Duration = Duration::from_secs(5);
/// How much of each line is kept.
const LINE_BYTES: usize = 500;

/// The major version of the program, and its whole version.
pub(crate) async fn version(source: &PostgresqlSource) -> Result<(u32, String), Failure> {
    let program = source.pg_dump.program.display();
    let hint = "install PostgreSQL's client programs, or name the program with `pg-dump` in the configuration";
    let output = child(&source.pg_dump).arg("--version").stdin(Stdio::null()).output().await;
    let output = output.map_err(|e| Failure::new(format!("cannot run `{program}`: {e}"), hint))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
    let version = text.trim().strip_prefix("pg_dump (PostgreSQL) ");
    let major = version.and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    match (version, major) {
        (Some(version), Some(major)) if output.status.success() => Ok((major, version.to_owned())),
        _ => Err(Failure::new(format!("`{program}` is not pg_dump: `{program} --version` does not say so"), hint)),
    }
}

/// Dumps a database, as of the moment of `snapshot`, into `object`.
///
/// # Errors
///
/// `pg_dump` failed, its dump is not whole, or it could not be stored.
pub(crate) async fn dump(
    source: &PostgresqlSource,
    database: &TargetConfig,
    snapshot: &str,
    object: &mut NewObject,
    mut progress: impl FnMut(u64),
) -> Result<VerifiedDump, Failure> {
    let what = format!("dump the database `{}`", database.database);
    let mut command = command(source, database, snapshot);
    let mut child =
        command.spawn().with_context(|| format!("cannot {what}: cannot run `{}`", source.pg_dump.program.display()))?;
    let stdout = child.stdout.take().expect("it was asked for").into_owned_fd();
    let stdout = File::from(stdout.context("cannot read what pg_dump writes")?);
    let pause = enlarge(&stdout).then_some(PAUSE);
    let complaints = tokio::spawn(last_lines(child.stderr.take().expect("it was asked for")));

    let verifier = DumpVerifier::new(source.format);
    let (sender, mut pieces) = mpsc::channel(WAITING);
    let verification = thread::Builder::new().spawn(move || pass_on(stdout, pause, verifier, &sender));
    let verification = verification.context("the system has no thread to give")?;
    let mut stored = 0;
    while let Some(piece) = pieces.recv().await {
        stored += piece.len() as u64;
        // An error here drops the child, which ends it, and the channel, which ends the thread.
        object.write(piece).await?;
        progress(stored);
    }
    // The thread waits for nothing but the verification.
    let verified = tokio::task::spawn_blocking(move || verification.join()).await;
    let verified = verified.context("the verification was cancelled")?.expect("the thread does not panic");
    if let Ok(Verified { dump: Err(_), is_early: true }) = &verified {
        // It still writes what nobody reads.
        let _ = child.start_kill();
    }
    let status = child.wait().await.context("cannot wait for pg_dump")?;
    // Somebody whom it has started may hold its standard error open.
    let complaints =
        tokio::time::timeout(AFTER_END, complaints).await.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let noun = if source.format == ObjectFormat::Plain { "dump" } else { "archive" };
    outcome(&what, noun, verified, status, &complaints)
}

/// What is to be said of all that is known at the end.
fn outcome(
    what: &str,
    noun: &str,
    verified: std::io::Result<Verified>,
    status: ExitStatus,
    complaints: &[String],
) -> Result<VerifiedDump, Failure> {
    let said = if complaints.is_empty() {
        "; it said nothing on its standard error".to_owned()
    } else {
        format!(", and said:\n  {}", complaints.join("\n  "))
    };
    let Verified { dump, is_early } =
        verified.with_context(|| format!("cannot {what}: cannot read what pg_dump writes"))?;
    match dump {
        Err(damage) if is_early => {
            let article = if noun == "archive" { "an" } else { "a" };
            let context = format!("cannot {what}: what pg_dump writes is not {article} {noun} that can be used{said}");
            let hint = "see whether `pg-dump` in the configuration is PostgreSQL's own program";
            Err(Failure::from(damage).context(context).with_hint(hint))
        }
        _ if !status.success() => {
            let hint = if status.signal().is_some() {
                "see in the system's log what has ended it, such as that there was no memory left, and run the same command \
                 again; nothing was published"
            } else {
                "correct what it complains of, and run the same command again; nothing was published"
            };
            Err(Failure::new(format!("cannot {what}: pg_dump ended with {status}{said}"), hint))
        }
        Err(damage) => {
            let context = format!("cannot {what}: pg_dump ended as if all was well, but its {noun} is not whole{said}");
            let hint = "run the same command again; nothing was published";
            Err(Failure::from(damage).context(context).with_hint(hint))
        }
        Ok(dump) => {
            for complaint in complaints {
                terminal::warn(format_args!("pg_dump: {complaint}"));
            }
            Ok(dump)
        }
    }
}

fn command(source: &PostgresqlSource, database: &TargetConfig, snapshot: &str) -> Command {
    let format = match source.format {
        ObjectFormat::Plain => "--format=plain",
        _ => "--format=custom",
    };
    let mut command = client(&source.pg_dump, database);
    command
        .args([format, "--no-password", "--snapshot", snapshot])
        .args(source.compress.iter().map(|compress| format!("--compress={compress}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The program, with no secret that is none of its business.
fn child(pg_dump: &PgDump) -> Command {
    let mut command = Command::new(&pg_dump.program);
    // What a shell happens to have set must not lead it elsewhere.
    let misleading =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.as_encoded_bytes().starts_with(b"PG"));
    for name in misleading.chain(pg_dump.withheld.iter().cloned()) {
        command.env_remove(name);
    }
    command
}

/// The program, which is to connect to a database.
fn client(pg_dump: &PgDump, database: &TargetConfig) -> Command {
    let mut command = child(pg_dump);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
        .env("PGHOST", &database.host)
        .env("PGPORT", database.port.to_string())
        .env("PGDATABASE", &database.database)
        .env("PGUSER", &database.su_username)
        .env("PGSSLMODE", database.sslmode.as_str())
        .env("PGCONNECT_TIMEOUT", database.connect_timeout.as_secs().to_string())
        .env("PGAPPNAME", "backup")
        .env("LC_MESSAGES", "C");
    // Not an argument, which everybody on the machine could read.
    if let Some(password) = &database.su_password {
        command.env("PGPASSWORD", password.expose_secret());
    }
    match &database.ca_file {
        Some(file) => {
            command.env("PGSSLROOTCERT", file);
        }
        // As our own connection has it; libpq would look for a file in the home directory.
        None if database.sslmode == SslMode::VerifyFull => {
            command.env("PGSSLROOTCERT", "system");
        }
        None => {}
    }
    command
}

/// What the thread has found out.
struct Verified {
    dump: dumpfmt::Result<VerifiedDump>,
    /// Before `pg_dump` had written everything.
    is_early: bool,
}

/// Whether a pipe holds [`PIPE_BYTES`] now. Where that is more than an unprivileged user may have in all, it stays as it is, and is to be
/// emptied at once.
#[cfg(target_os = "linux")]
fn enlarge(pipe: &File) -> bool {
    rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES).is_ok_and(|bytes| bytes >= PIPE_BYTES)
}

/// Only Linux lets anybody ask for more.
#[cfg(not(target_os = "linux"))]
fn enlarge(_: &File) -> bool {
    false
}

/// Reads to the end, and gives each piece to the verification and to whoever stores it.
fn pass_on(
    mut stdout: File,
    pause: Option<Duration>,
    mut verifier: DumpVerifier,
    pieces: &mpsc::Sender<Bytes>,
) -> std::io::Result<Verified> {
    loop {
        let mut piece = BytesMut::zeroed(PIECE_BYTES);
        let read = match stdout.read(&mut piece) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(Verified { dump: verifier.finish(), is_early: false });
        }
        piece.truncate(read);
        verifier.write_all(&piece)?;
        if let Some(pause) = pause.filter(|_| read < PIECE_BYTES / 4) {
            thread::sleep(pause);
        }
        // Whoever stores it has failed, and says why.
        let is_stopped = pieces.blocking_send(piece.freeze()).is_err();
        if is_stopped || verifier.has_failed() {
            return Ok(Verified { dump: verifier.finish(), is_early: true });
        }
    }
}

pub(super) async fn last_lines(stderr: ChildStderr) -> Vec<String> {
    let mut lines = VecDeque::new();
    let mut input = BufReader::new(stderr);
    let mut line = Vec::new();
    // A line without an end is cut, so that it cannot fill the memory.
    while let Ok(1..) = (&mut input).take(1 << 16).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim_end().chars().take(LINE_BYTES).map(|c| if c == '\t' { ' ' } else { c }).collect();
        if !text.is_empty() {
            lines.push_back(text);
        }
        if lines.len() > LINES {
            lines.pop_front();
        }
        line.clear();
    }
    lines.into()
}
