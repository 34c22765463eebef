//! What a restore did, for people and for the record.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id_columns::IdColumn;
use crate::mapping::{Mapping, PairUse};
use crate::names::TableName;
use crate::plan::UnknownIds;
use crate::survey::Stray;

/// The record of a database that was made of a dump.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this structure's JSON form; 1.
    pub version: u32,
    /// The version of this library.
    pub pgmig_version: String,
    /// When the database was begun, under another name.
    pub started: DateTime<Utc>,
    /// When it had its name.
    pub finished: DateTime<Utc>,
    /// How long that took.
    pub seconds: f64,
    /// Where the dump was read from.
    pub dump: String,
    /// The database.
    pub database: String,
    /// The server's version as `server_version_num` has it.
    pub server_version: i32,
    /// PostgreSQL's name of the encoding of the database.
    pub encoding: String,
    /// The database that had the name before, under the name that it has now.
    pub set_aside: Option<String>,
    /// The tables with rows, in the dump's order.
    pub tables: Vec<LoadedTable>,
    /// Their rows, as the server counted them at the end.
    pub rows: u64,
    /// Statements that were executed.
    pub statements: u64,
    /// Whether statistics for the planner were made.
    pub analyzed: bool,
    /// What was replaced, when something was to be.
    pub remap: Option<RemappedOwners>,
    /// What is odd but no error.
    pub warnings: Vec<String>,
}

/// A table of the dump.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LoadedTable {
    /// The table.
    pub table: TableName,
    /// Its rows.
    pub rows: u64,
    /// IDs in ID columns that the mapping names.
    pub ids: u64,
    /// Bytes of COPY text in the dump.
    pub bytes: u64,
}

/// What was replaced.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RemappedOwners {
    /// The profile's name.
    pub profile: String,
    /// Which ID became which.
    pub mapping: Mapping,
    /// In which columns.
    pub id_columns: Vec<IdColumn>,
    /// How the IDs of the mapping occurred.
    pub pair_use: PairUse,
    /// Values in ID columns that the mapping does not name. They stay as they are.
    pub unknown_ids: Vec<UnknownIds>,
    /// Source IDs in other places, which stay; there are some only when they were to be ignored.
    pub strays: Vec<Stray>,
}
