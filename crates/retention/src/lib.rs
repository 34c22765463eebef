//! Names and times of backups. No I/O and no clock: a name comes in as text, and what it says
//! goes out as a value.
//!
//! The product's own backup job left volumes full of dumps behind, and ours keeps its names:
//!
//! | path in the volume | what it is |
//! | --- | --- |
//! | `store.dump_YYYYMMDD-HHMMSS` | a daily backup |
//! | `weekly/store.dump_YYYYMMDD-HHMMSS` | a weekly backup |
//!
//! [`BackupName`] reads and prints them. The newest backup of a folder, told by the names alone,
//! since a copied or touched file has a wrong modification time:
//!
//! ```
//! use retention::BackupName;
//!
//! let listing = ["store.dump_20240309-230004", "weekly/store.dump_20240310-230003", "lost+found"];
//! let newest = listing.iter().filter_map(|path| path.parse::<BackupName>().ok()).max();
//! assert_eq!(newest.map(|name| name.to_string()).as_deref(), Some("weekly/store.dump_20240310-230003"));
//! ```

mod backup_name;

pub use backup_name::{BackupName, Cadence, ParseBackupNameError, YearOutOfRange};
