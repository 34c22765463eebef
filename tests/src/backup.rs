//! The program `backup`, as a user runs it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::Server;
use crate::pgmig::{Run, built};

/// The path of the program, which is built when it is first asked for.
///
/// # Panics
///
/// When it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("backup"))
}

/// A folder with a `backup.yaml`, in which the program is run. The job `nightly` backs the source `store` up to the
/// destination `vault`.
#[derive(Debug)]
pub struct Backups {
    folder: TempDir,
    source: BTreeMap<&'static str, String>,
    destination: String,
    job: String,
}

impl Backups {
    /// Of a database, in the folder `vault` beside the configuration.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub fn of(server: &Server, database: &str) -> Self {
        Self::via(server, server.port(), database)
    }

    /// The same through another port, such as that of a [`CutProxy`](crate::CutProxy).
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub fn via(server: &Server, port: u16, database: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("vault")).expect("the folder is writable");
        fs::write(folder.path().join("password"), format!("{}\n", server.password())).expect("the folder is writable");
        let source = BTreeMap::from([
            ("type", "postgresql".to_owned()),
            ("host", server.host().to_owned()),
            ("port", port.to_string()),
            ("database", database.to_owned()),
            ("username", server.user().to_owned()),
            ("password-file", "password".to_owned()),
            ("pg-dump", server.tools().program("pg_dump").display().to_string()),
        ]);
        let backups = Self { folder, source, destination: "{type: local, path: vault}".into(), job: String::new() };
        backups.write();
        backups
    }

    /// With another value, or without the key when it is empty.
    #[must_use]
    pub fn source(mut self, key: &'static str, value: &str) -> Self {
        if value.is_empty() {
            self.source.remove(key);
        } else {
            self.source.insert(key, value.to_owned());
        }
        self.write();
        self
    }

    /// The database that is backed up.
    pub fn database(&self) -> &str {
        &self.source["database"]
    }

    /// With another destination, in YAML.
    #[must_use]
    pub fn destination(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.destination);
        self.write();
        self
    }

    /// With more lines for the job.
    #[must_use]
    pub fn job(mut self, line: &str) -> Self {
        writeln!(self.job, "    {line}").expect("text can be appended to");
        self.write();
        self
    }

    /// Without the lines that were added to the job.
    #[must_use]
    pub fn job_without_lines(mut self) -> Self {
        self.job.clear();
        self.write();
        self
    }

    /// Whose `pg_dump` is this shell script; in it `$PG_DUMP` is the real one.
    #[must_use]
    pub fn pg_dump(self, script: &str) -> Self {
        let path = self.file("pg_dump.sh");
        let real = &self.source["pg-dump"];
        let version = "[ \"$1\" = --version ] && exec \"$PG_DUMP\" --version";
        fs::write(&path, format!("#!/bin/bash\nPG_DUMP='{real}'\n{version}\n{script}\n"))
            .expect("the folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        self.source("pg-dump", &path.display().to_string())
    }

    fn write(&self) {
        let mut yaml = "sources:\n  store:\n".to_owned();
        for (key, value) in &self.source {
            writeln!(yaml, "    {key}: {value}").expect("text can be appended to");
        }
        let Self { destination, job, .. } = self;
        write!(
            yaml,
            "destinations:\n  vault: {destination}\njobs:\n  nightly:\n    source: store\n    destination: vault\n{job}"
        )
        .expect("text can be appended to");
        fs::write(self.file("backup.yaml"), yaml).expect("the folder is writable");
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with arguments, in the folder and without a terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.folder.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }

    /// Starts the program.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the program starts")
    }

    /// Makes a backup and returns its ID.
    #[track_caller]
    pub fn make(&self) -> String {
        let ran = self.run(&["run", "nightly", "--output", "json"]).done().json();
        ran["manifest"]["id"].as_str().expect("an ID").to_owned()
    }

    /// What `backup list` says of the job.
    #[track_caller]
    pub fn list(&self) -> Value {
        self.run(&["list", "nightly", "--output", "json"]).done().json()["jobs"][0].clone()
    }

    /// The IDs of the backups that are listed, the oldest first.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        let list = self.list();
        let backups = list["backups"].as_array().expect("a list");
        backups.iter().map(|backup| backup["id"].as_str().expect("an ID").to_owned()).collect()
    }

    /// Panics unless every backup that is listed is whole, and returns their IDs.
    #[track_caller]
    pub fn verified(&self) -> Vec<String> {
        let ids = self.ids();
        for id in &ids {
            let _ = self.run(&["verify", "nightly", id]).done();
        }
        ids
    }

    /// Everything that is in the vault, by its path in it, in order.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    pub fn vault(&self) -> Vec<String> {
        let root = self.file("vault");
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("the vault can be read") {
                let path = entry.expect("the vault can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("it is below");
                    files.push(name.to_str().expect("our names are text").to_owned());
                }
            }
        }
        files.sort();
        files
    }

    /// Another backup like this one, as if it had been made at another time. It has the same content.
    ///
    /// # Panics
    ///
    /// When there is no such backup in the vault.
    pub fn copy_as(&self, id: &str, other: &str) {
        let job = self.file("vault/nightly");
        fs::create_dir(job.join(other)).expect("there is none yet");
        for entry in fs::read_dir(job.join(id)).expect("there is such a backup") {
            let entry = entry.expect("the vault can be read");
            let to = job.join(other).join(entry.file_name());
            if entry.file_name() == "manifest.json" {
                let manifest = fs::read_to_string(entry.path()).expect("a manifest");
                fs::write(to, manifest.replace(id, other)).expect("the vault is writable");
            } else {
                fs::copy(entry.path(), to).expect("the vault is writable");
            }
        }
    }
}
