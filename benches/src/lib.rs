//! What benches stand on: archives that the real `pg_dump` made once, and the measuring of whole
//! processes.
//!
//! - `cargo bench -p pgmig-benches` measures the libraries (criterion).
//! - `compare`, a program of this crate, measures whole processes against their peers on the same
//!   data and server, and prints Markdown tables. `archive` does it for the reading of archives.
//!
//! Nothing here fails for being slow: machines are noisy, so ratios are for people to read.

mod cache;
mod contents;
mod process;
mod rows;
mod store;
mod table;
pub mod work;

pub use contents::contents;
pub use process::{Usage, measure, measure_into, measure_output};
pub use rows::rows;
pub use store::{Provisioned, archives, mapping, provision};
pub use table::{Sample, Table};
