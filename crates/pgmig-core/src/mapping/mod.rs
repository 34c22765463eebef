//! Which instance of the target takes the data of which instance of the archive.

mod file;
mod resolve;

pub use file::{MappingEntry, MappingFile, WriteError, Written};
pub use resolve::{MappedTenant, Mapping, ProvisionedInstance};
