//! Archives that need help: without positions, cut short, damaged, or within a log.
//!
//! # Positions
//!
//! In the custom format.
//!
//! `oc exec ... pg_dump -Fc > file` gives an archive that does not record where its data is, since pg_dump could
//! not go back in a pipe; `pg_restore -j` refuses to work with more than one connection on it. From 16 on, the same
//! holds for `pg_dump -Fc > file`. There are two ways to add the positions:
//!
//! - into a copy: a [`Rewrite`](crate::Rewrite) to a file with nothing said, which copies the blocks as they
//!   are and records where it puts them;
//! - in place: [`index_in_place`], which verifies the archive and then writes no more than the positions. A journal beside
//!   the file keeps it whole if that is interrupted.
//!
//! # Repair
//!
//! [`RepairPlan`] tells what is whole in an archive that is cut short or damaged, and makes a new archive of it.
//! Archives in the directory and tar formats have [`MemberPlan`] instead.
//! In the custom format, an archive that is not at the begin of its file, as in the log of a job, is found; what is before and behind it
//! is told.
//!
//! All others in this crate are strict: they refuse an archive that is not whole.

mod blocks;
mod find;
mod index;
mod journal;
mod lengths;
mod members;
mod plan;
mod scan;
mod window;
mod write;

pub use find::{CrlfUndone, FoundArchive, find_archive, undo_crlf};
pub use index::{IndexError, IndexOptions, IndexReport, index_in_place};
pub use members::{LostMember, MemberPlan, RecoveredMember};
pub use plan::{Damage, Loss, LossKind, LostEntry, RecoveredEntry, RepairOptions, RepairPlan};
