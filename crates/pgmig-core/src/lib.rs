//! Restores a `pg_dump` archive into another installation with every service instance ID remapped.
//!
//! - [`instance_id`]: the ID of a service instance, which is what a restore remaps
//! - [`mapping`]: mapping files, source ID to target ID
//! - [`resource_controller`]: the instances that are provisioned in the target installation
//! - [`connection`]: the connection to the target's PostgreSQL server
//! - [`config_file`]: what reading any of our YAML files can report
//! - [`tls`]: trusted certificates, and what a failed TLS handshake means

pub mod archive;
pub mod catalog;
pub mod config_file;
pub mod connection;
pub mod error;
pub mod id_columns;
pub mod inspect;
pub mod instance_id;
pub mod json_path;
pub mod mapping;
pub mod names;
pub mod plan;
pub mod profile;

pub mod resource_controller;
pub mod restore;
pub mod summary;
pub mod target;
pub mod tenant;

mod encoding;
mod error_chain;
mod id_sql;
mod remap;
mod survey;
pub mod tls;
mod yaml;

pub use error::Error;
