//! How sources are read.

pub(crate) mod databases;
pub(crate) mod dump;
pub(crate) mod pg_dump;
mod postgresql;
mod row_counts;
pub(crate) mod throw_away;
