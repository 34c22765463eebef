//! What benches stand on: archives of the demo store, made once by the real `pg_dump`, and the
//! measuring of whole processes.
//!
//! - `cargo bench -p pgmig-benches` measures the libraries (criterion).
//! - `compare`, a program of this crate, measures whole processes against their peers on the same
//!   data and server, and prints Markdown tables.
//!
//! Nothing here fails for being slow: machines are noisy, so ratios are for people to read.

mod process;
mod store;
mod table;

pub use process::{Usage, measure};
pub use store::{Provisioned, archives, mapping, provision};
pub use table::{Sample, Table};
