//! The real program, as a user runs it.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::{
    awkward::{self, MAPPING, Target},
    postgres::PASSWORD,
};

/// What the bearer tokens of tests have in them, so that they are noticed where they do not belong.
pub const SECRET_TOKEN: &str = "eyJ0b2tlbiI6InNlY3JldCJ9";

/// The path of the program, which is built when it is first asked for.
///
/// # Panics
///
/// When it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("pgmig"))
}

/// Builds one of our programs.
pub(crate) fn built(package: &str) -> PathBuf {
    // Tests are in `<target>/<profile>/deps`.
    let test = env::current_exe().expect("the test knows its path");
    let profile = test.ancestors().nth(2).expect("tests are deep in the target folder");
    let target = profile.parent().expect("the target folder is above");
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // All features that `cargo test --workspace` has switched on, by a small test beside the program: with others its dependencies would
    // be built once more.
    build.args(["build", "--quiet", "--workspace", "--bin", package, "--test", "decide"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name() == Some(OsStr::new("release")) {
        build.arg("--release");
    }
    let status = build.env("CARGO_TARGET_DIR", target).status().expect("cargo starts");
    assert!(status.success(), "{package} cannot be built");
    profile.join(package)
}

/// A folder with the files of one migration, in which the program is run.
#[derive(Debug)]
pub struct Job {
    folder: TempDir,
    source: PathBuf,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Run {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Job {
    /// A restore of an archive into a target by `awkward-mapping.yaml` and the awkward profile.
    pub fn new(archive: &Path, target: &Target) -> Self {
        Self::via(archive, target, target.server.port())
    }

    /// The same through another port, such as that of a [`CutProxy`](crate::CutProxy).
    pub fn via(archive: &Path, target: &Target, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let job = Self { folder, source: archive.to_owned() };
        target.server.write_postgres_yaml_via(&job.file("postgres.yaml"), &target.database, target.server.host(), port);
        fs::copy(awkward::profile(), job.file("profile.yaml")).expect("the folder is writable");
        job.map(&MAPPING);
        job
    }

    /// Work that needs no target.
    pub fn without_target() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), source: PathBuf::new() }
    }

    /// Writes another `mapping.yaml`.
    pub fn map(&self, mapping: &[(&str, &str)]) {
        let mut text = "instance-mappings:\n".to_owned();
        for (source, target) in mapping {
            writeln!(text, "  {source}: {target}").expect("text can be appended to");
        }
        fs::write(self.file("mapping.yaml"), text).expect("the folder is writable");
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with its usual arguments and a mapping, erasing what is there.
    pub fn command(&self) -> Command {
        let mut command = self.without_mapping();
        command.args(["--mapping", "mapping.yaml", "--force", "--yes"]);
        command
    }

    /// The program with source, target and profile only.
    pub fn without_mapping(&self) -> Command {
        let mut command = self.bare();
        command.arg("--source").arg(&self.source);
        command.args(["--target", "postgres.yaml", "--profile", "profile.yaml"]);
        command
    }

    /// The program without arguments, in the folder and without a terminal.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in ["PG_CA_FILE", "PGSSLMODE", "PGPASSWORD", "ENABLE_ICP"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the program at a terminal, where somebody types these answers, and returns what the terminal showed.
    ///
    /// # Panics
    ///
    /// When there is no program `script`, or it does not start.
    pub fn at_terminal(&self, shell_command: &str, answers: &str) -> Run {
        self.at_terminal_after("", || {}, shell_command, answers)
    }

    /// The same by somebody who does something else when the terminal shows `question`, and answers after it.
    ///
    /// # Panics
    ///
    /// When there is no program `script`, it does not start, or it ends before the question.
    pub fn at_terminal_after(
        &self,
        question: &str,
        meanwhile: impl FnOnce(),
        shell_command: &str,
        answers: &str,
    ) -> Run {
        let mut script = self.bare();
        let line = format!("'{}' {shell_command}", program().display());
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(self.folder.path());
        terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("TERM", "xterm");
        for (variable, value) in script.arg("").get_envs() {
            assert!(value.is_none());
            terminal.env_remove(variable);
        }
        let mut child = terminal.spawn().expect("`script` is part of util-linux");
        // The end of the input would be the end of the terminal.
        let mut keyboard = child.stdin.take().expect("it is piped");
        let mut shown = child.stdout.take().expect("it is piped");
        let mut screen = Vec::new();
        while !String::from_utf8_lossy(&screen).contains(question) {
            let mut buffer = [0; 4096];
            let read = shown.read(&mut buffer).expect("the terminal can be read");
            assert!(read > 0, "it ended before `{question}`: {}", String::from_utf8_lossy(&screen));
            screen.extend_from_slice(&buffer[..read]);
        }
        meanwhile();
        keyboard.write_all(answers.as_bytes()).expect("the terminal takes it");
        shown.read_to_end(&mut screen).expect("the terminal can be read");
        let output = child.wait_with_output().expect("it ends");
        drop(keyboard);
        Output { stdout: screen, ..output }.into()
    }

    /// Runs the program with its usual arguments and more.
    pub fn run(&self, more: &[&str]) -> Run {
        Run::of(self.command().args(more))
    }
}

impl Run {
    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn of(command: &mut Command) -> Self {
        command.output().expect("the program starts").into()
    }

    /// Panics unless the program ended well.
    #[track_caller]
    #[must_use]
    pub fn done(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Panics unless the program failed in the way of our programs: status 1, an error, a hint with the
    /// next step, and each of these texts.
    #[track_caller]
    #[must_use]
    pub fn failed(self, texts: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(1), "{self}");
        for text in ["error: ", "\nhint: "].iter().chain(texts) {
            assert!(self.stderr.contains(text), "`{text}` is not in: {self}");
        }
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|why| panic!("no JSON ({why}): {self}"))
    }

    /// Panics unless standard error or output has each of these texts.
    #[track_caller]
    #[must_use]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text) || self.stdout.contains(text), "`{text}` is not in: {self}");
        }
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
        let run = Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) };
        // Whatever a test is about: nothing secret is printed, and nothing fails in a way that nobody thought of.
        for never in [PASSWORD, SECRET_TOKEN, "panicked at"] {
            assert!(!run.stdout.contains(never) && !run.stderr.contains(never), "`{never}` was printed: {run}");
        }
        run
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the program ended with {}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}
