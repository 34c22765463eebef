//! The crate from outside, in one program.

mod adopt;
mod backend;
mod catalog;
mod folder;
