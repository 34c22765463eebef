//! The crate from outside, in one program.

mod backend;
mod catalog;
mod folder;
