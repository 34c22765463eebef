//! Restores a pg_dump archive into another installation with every service
//! instance ID remapped: planned, in one transaction, verified before the commit.
//!
//! | module | what it is about |
//! | --- | --- |
//! | [`archive`] | the archive, opened, and its contents as a restore needs them |
//! | [`profile`] | what must be known of a product: where tenants are listed, which columns hold IDs |
//! | [`tenant`], [`instance_id`] | the service instances and their IDs |
//! | [`mapping`] | which instance becomes which: files, names, and the proof that it fits |
//! | [`resource_controller`] | the instances that are provisioned in the target installation |
//! | [`connection`], [`target`], [`catalog`] | the target's server, and what is in its database |
//! | [`plan`], [`restore`] | what will be done, and doing it |
//! | [`offline`] | remapping an archive into another one, without any database |
//! | [`new_database`] | making a new database of an archive or a script, owners replaced on the way |
//! | [`inspect`] | what is in an archive, without any database |
//! | [`config_file`], [`yaml`] | configuration files, of which every fault is told at once |
//!
//! # Looking into an archive
//!
//! ```
//! use std::path::Path;
//! use pgmig_core::archive::Archive;
//! use pgmig_core::profile::Profile;
//!
//! # let input = dumpfmt::example::archive();
//! // `Archive::open` takes a file, `Archive::spool` anything that can be read.
//! let mut archive = Archive::spool(input, Path::new("standard input"), |_copied| {})?;
//! let found = pgmig_core::inspect::inspect(&mut archive, &Profile::watson_assistant(), |_position| {})?;
//! for tenant in found.tenants.iter().flatten() {
//!     println!("{} {}", tenant.id, tenant.display_name());
//! }
//! # assert!(found.tenants.is_none() && found.tables[0].rows == 1);
//! # Ok::<(), pgmig_core::Error>(())
//! ```
//!
//! # A restore
//!
//! ```no_run
//! use std::path::Path;
//! use pgmig_core::archive::Archive;
//! use pgmig_core::connection::{self, Environment, TargetConfig};
//! use pgmig_core::mapping::{Mapping, MappingFile, ProvisionedInstance};
//! use pgmig_core::plan::{Plan, PlanOptions};
//! use pgmig_core::{profile::Profile, restore::restore, target::Target, tenant};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let profile = Profile::watson_assistant();
//! let mut archive = Archive::open(Path::new("store.dump"), |_| {})?;
//! let tenants = tenant::in_archive(&mut archive, &profile)?;
//!
//! let config = TargetConfig::load(Path::new("postgres.yaml"), &Environment::default())?;
//! let mut connection = connection::connect(&config).await?;
//! let target = Target::read(&connection.client, &profile).await?;
//!
//! let file = MappingFile::load(Path::new("mapping.yaml"))?;
//! let provisioned = ProvisionedInstance::of_tenants(&target.tenants);
//! let mapping = Mapping::resolve(&tenants, file.entries(), &provisioned, "the target")?;
//!
//! let options = PlanOptions::default();
//! let plan = Plan::make(&mut archive, &connection.client, &target, &profile, mapping, &options, |_| {}).await?;
//! plan.expect_no_strays()?;
//! plan.expect_empty_target()?;
//!
//! let report = restore(&plan, archive, &mut connection, &config, |_| {}).await?;
//! println!("{} rows", report.verification.rows);
//! # Ok(())
//! # }
//! ```

pub mod archive;
pub mod catalog;
pub mod config_file;
pub mod connection;
pub mod encoding;
pub mod error;
pub mod id_columns;
pub mod inspect;
pub mod instance_id;
pub mod json_path;
pub mod mapping;
pub mod names;
pub mod new_database;
pub mod offline;
pub mod plan;
pub mod profile;
pub mod resource_controller;
pub mod restore;
pub mod summary;
pub mod target;
pub mod tenant;

mod error_chain;
mod id_sql;
mod remap;
mod survey;
pub mod tls;
pub mod yaml;

pub use error::Error;
