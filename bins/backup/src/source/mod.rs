//! How sources are read.

pub(crate) mod databases;
pub(crate) mod pg_dump;
mod postgresql;
pub(crate) mod throw_away;
