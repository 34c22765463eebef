//! The libraries, each used as its documentation shows.

pub(crate) mod dumpfmt;
pub(crate) mod libpgdump;
pub(crate) mod pgarchive;
pub(crate) mod pgdumpx;
