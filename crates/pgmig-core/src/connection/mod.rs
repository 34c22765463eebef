//! The connection to the target's PostgreSQL server.

mod config;

pub use config::{Environment, SslMode, TargetConfig, UnknownSslMode};
