//! The crate from outside, in one program.

mod adopt;
mod backend;
mod catalog;
mod crash;
#[cfg(feature = "encryption")]
mod encryption;
mod folder;
mod interleaving;
mod memory;
#[cfg(feature = "signing")]
mod signing;
