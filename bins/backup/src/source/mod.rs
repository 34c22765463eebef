//! How sources are read.

pub(crate) mod pg_dump;
pub(crate) mod postgresql;
