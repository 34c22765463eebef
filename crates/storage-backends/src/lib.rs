//! Places to keep backups in. So far one: a folder of this machine ([`local`]).
//!
//! A backup is written under a temporary name and gets its own when it is complete and on the disk,
//! by one rename. So a name that looks like a backup is one, whatever was killed or ran full.
//!
//! ```
//! use std::io::Write as _;
//! use storage_backends::local::{Existing, Folder};
//!
//! # let volume = tempfile::tempdir()?;
//! # let volume = volume.path();
//! let folder = Folder::open(volume)?;
//! let mut backup = folder.stage("weekly/store.dump_20240310-230003", Existing::Keep)?;
//! backup.write_all(b"PGDMP")?;
//! assert!(!volume.join("weekly/store.dump_20240310-230003").exists());
//!
//! backup.publish()?;
//! assert_eq!(std::fs::read(volume.join("weekly/store.dump_20240310-230003"))?, b"PGDMP");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod local;
