//! What a restore did, for people and for the record.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::archive::SequenceState;
use crate::mapping::Mapping;
use crate::names::TableName;
use crate::plan::Plan;
use crate::summary::ArchiveSummary;

/// The record of a restore that was committed.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this structure's JSON form; 1.
    pub version: u32,
    /// The version of this library.
    pub pgmig_version: String,
    /// When the transaction began.
    pub started: DateTime<Utc>,
    /// When it had been committed.
    pub finished: DateTime<Utc>,
    /// How long that took.
    pub seconds: f64,
    /// The archive.
    pub archive: ArchiveSummary,
    /// The profile's name.
    pub profile: String,
    /// Which tenant became which.
    pub mapping: Mapping,
    /// The tables, in the archive's order.
    pub tables: Vec<RestoredTable>,
    /// Large objects restored.
    pub large_objects: u64,
    /// Rows of the target that were erased, by table.
    pub erased: Vec<ErasedTable>,
    /// Large objects of the target that were erased.
    pub erased_large_objects: u64,
    /// The sequences with their new values.
    pub sequences: Vec<SequenceState>,
    /// The materialized views that were refreshed.
    pub materialized_views: Vec<TableName>,
    /// What was proved before the commit.
    pub verification: Verification,
    /// The plan's warnings.
    pub warnings: Vec<String>,
}

/// A table that was restored.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RestoredTable {
    /// The table in the archive.
    pub table: TableName,
    /// The table that took the rows.
    pub destination: TableName,
    /// Rows restored.
    pub rows: u64,
    /// Rows of the archive that were left out.
    pub rows_left_out: u64,
    /// IDs in its ID columns, in the archive.
    pub ids: u64,
    /// Bytes of COPY text sent.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A table of which rows were erased.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ErasedTable {
    /// The table.
    pub table: TableName,
    /// Rows erased.
    pub rows: u64,
    /// Rows kept.
    pub rows_kept: u64,
}

/// What was proved before the commit.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Tables whose rows were counted and agree with the archive.
    pub tables: u64,
    /// The rows in them.
    pub rows: u64,
    /// ID columns in which no source ID is left.
    pub id_columns: u64,
    /// Foreign keys that were checked against every row. Those marked NOT VALID are
    /// not among them; every other constraint was checked as the rows came.
    pub foreign_keys: u64,
}

impl Report {
    pub(super) fn new(plan: &Plan, now: DateTime<Utc>) -> Self {
        let erased = plan.erase.iter().filter(|erase| erase.rows > 0);
        Self {
            version: 1,
            pgmig_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            finished: now,
            seconds: 0.0,
            archive: plan.archive.clone(),
            profile: plan.profile.clone(),
            mapping: plan.mapping.clone(),
            tables: Vec::new(),
            large_objects: 0,
            erased: erased
                .map(|erase| ErasedTable {
                    table: erase.table.clone(),
                    rows: erase.rows_to_erase(),
                    rows_kept: erase.rows_kept,
                })
                .collect(),
            erased_large_objects: plan.large_objects.erased,
            sequences: plan.sequences.clone(),
            materialized_views: plan.materialized_views.clone(),
            verification: Verification::default(),
            warnings: plan.warnings.clone(),
        }
    }

    pub(super) fn finish(&mut self, now: DateTime<Utc>, elapsed: Duration) {
        self.finished = now;
        self.seconds = elapsed.as_secs_f64();
    }
}
