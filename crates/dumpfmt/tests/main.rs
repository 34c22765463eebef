//! The library from outside, in one program: built apart, each would compile the library's generic code again.

mod archives;
mod data;
mod directory;
mod flips;
mod hostile;
mod line_breaks;
mod memory;
mod read;
mod repair;
mod rewrite;
mod stored;
mod tar;
mod verify;
mod versions;
mod write;
