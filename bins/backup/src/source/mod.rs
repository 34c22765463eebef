//! How sources are read.

pub(crate) mod buckets;
pub(crate) mod connection;
pub(crate) mod databases;
pub(crate) mod dump;
mod lock;
pub(crate) mod pg_dump;
mod postgresql;
mod row_counts;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use storage_backends::{Manifest, NewBackup, Verification};
use terminal::{step, warn};

use crate::commands::Context;
use crate::config::Parts;
use crate::failure::Failure;
use buckets::Buckets;
use databases::Databases;

/// The parts of a source, open. Other runs are kept away from them.
pub(crate) struct OpenSource<'a> {
    databases: Option<Databases<'a>>,
    buckets: Buckets<'a>,
    /// What is not there, for people.
    absent: Vec<String>,
}

impl<'a> OpenSource<'a> {
    /// Connects to all parts.
    ///
    /// # Errors
    ///
    /// One of them cannot be used, or is being backed up; or there is none.
    pub(crate) async fn open(parts: &'a Parts, now: fn() -> DateTime<Utc>) -> Result<Self, Failure> {
        let mut absent = Vec::new();
        let databases = match &parts.databases {
            Some(source) => Some(Databases::open(source, now, parts.may_be_absent.then_some(&mut absent)).await?),
            None => None,
        };
        let buckets = Buckets::open(&parts.buckets, parts.may_be_absent.then_some(&mut absent)).await?;
        for absent in &absent {
            step(format_args!("{absent} is not there: that component is not installed"));
        }
        if databases.as_ref().is_none_or(Databases::is_empty) && buckets.is_empty() {
            let message = "nothing of the source is there: none of its components is installed";
            return Err(Failure::new(message, "check `host` and `endpoint` of the source, and what its user may see"));
        }
        Ok(Self { databases, buckets, absent })
    }

    /// Stores and verifies all parts, and completes the manifest.
    ///
    /// # Errors
    ///
    /// One of them cannot be read, stored or proven to be whole; or somebody asked us to end. What is stored of the backup is of no use.
    pub(crate) async fn back_up(
        self,
        context: &Context,
        backup: &mut NewBackup,
        mut manifest: Manifest,
    ) -> Result<Manifest, Failure> {
        let Self { databases, buckets, absent } = self;
        let (mut notes, mut proofs) = (Vec::new(), Vec::new());
        if let Some(databases) = databases.filter(|databases| !databases.is_empty()) {
            let proof = databases.proof();
            let moments = databases.back_up(context, backup, &mut manifest).await?;
            notes.push(format!("each database is as it was at one moment: {}", moments.join(", ")));
            proofs.push(proof);
        }
        if !buckets.is_empty() {
            let times = buckets.back_up(context, backup).await?;
            notes.push(format!("each object is as it was when it was read: {}", times.join(", ")));
            proofs.push("every object was read to its end, its length and digest compared with what the store says");
        }
        if !absent.is_empty() {
            notes.push(format!("not there: {}", absent.join(", ")));
        }
        manifest.consistency = Some(notes.join("; "));
        manifest.finished = (context.now)();
        manifest.verification = Some(Verification::new(manifest.finished, proofs.join("; ")));
        Ok(manifest)
    }
}

/// What became of an object that could not be completed. What is left of it is no backup, and goes by a later run.
async fn abort(object: storage_backends::NewObject) {
    if let Err(e) = object.abort().await {
        warn(e);
    }
}

/// The name of a database or a bucket can be anything; that of an object cannot.
fn object_name(origin: &str, extension: &str) -> String {
    let mut name = String::new();
    for c in origin.bytes() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(c)),
            other => {
                let _ = write!(name, "%{other:02X}");
            }
        }
    }
    format!("{name}.{extension}")
}
