//! Which instance of the target takes the data of which instance of the archive.

mod file;

pub use file::{MappingEntry, MappingFile, WriteError, Written};
