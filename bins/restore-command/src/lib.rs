//! The restore that both programs of this project offer: what can be typed, the questions to whoever is at the terminal, the
//! plan and the report as people read them; and how a program fails.
//!
//! What a restore does is in `pgmig-core`.

mod ask;
mod environment;
mod failure;
mod mapping;
mod options;
pub mod report_file;
mod restore;
pub mod text;

pub use environment::{environment, icp_enabled, resource_controller, security};
pub use failure::{Failure, Hints, Told};
pub use options::{OutputFormat, RestoreArgs, RestoreOptions, profile};
pub use restore::{Restore, is_committing};
