//! Plain dumps: the scripts that `pg_dump` writes when no other format is asked for, and that
//! [`write_sql`](crate::ArchiveReader::write_sql) makes of an archive.
//!
//! [`ScriptReader`] cuts one into statements and rows, as `psql` would, and proves on the way that it is whole: its last
//! lines are there, every quote is closed, the rows of every `COPY` have their end. Nothing of it is ever executed
//! here, and no command of `psql` is handed on: a script that has one, such as `\connect` or `\!`, is refused. Only the
//! `\restrict` and `\unrestrict` are accepted that newer releases of pg_dump write, and their keys compared.
//!
//! ```
//! use dumpfmt::plain::{Item, ScriptReader};
//!
//! # let file = dumpfmt::example::script();
//! let mut script = ScriptReader::new(&file[..]);
//! while let Some(item) = script.next_item()? {
//!     match item {
//!         Item::Statement(sql) => println!("{}", String::from_utf8_lossy(sql)),
//!         Item::CopyBegins(copy) => println!("{}", String::from_utf8_lossy(&copy.to_sql())),
//!         Item::CopyRows(_lines) => {}
//!         Item::CopyEnds { rows } => println!("{rows} rows"),
//!         _ => {}
//!     }
//! }
//! // Only now the script is known to be whole.
//! assert_eq!(script.tables()[0].rows, Some(2));
//! # Ok::<(), dumpfmt::Error>(())
//! ```
//!
//! Only to know that one is whole, from a file or on its way to one, there are [`ScriptReader::verify`] and
//! [`PlainVerifier`].

mod lexer;
mod reader;
#[cfg(test)]
mod tests;
mod text;
mod verify;

pub use reader::{Item, PlainTable, ScriptReader};
pub use verify::{PlainVerifier, VerifiedScript};
