//! Replacing instance IDs in rows of COPY text.

mod finder;
mod ids;
mod literal;
mod row;

pub(crate) use ids::{Fate, IdMap, Occurrence};
pub(crate) use row::{RowError, RowRemapper, Span};
