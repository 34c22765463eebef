//! Where a Watson Assistant deployment keeps its database: how to find the pod and the secret in each
//! generation of the product, and the connection that the secret describes.
//!
//! - [`Generation`]: labels, names and keys, by product version
//! - [`StoreConnection`]: host, port, database, user and password from the secret's value
//!
//! Nothing here talks to a cluster: values that were read from one come in as arguments.
//!
//! ```
//! use k8s_discovery::{Generation, StoreConnection};
//!
//! let generation = Generation::of("5.0.3".parse()?)?;
//! assert_eq!(generation.secret_selector("wa"), "component=store-subsystem,app.kubernetes.io/instance=wa");
//! assert_eq!(generation.secret_key, "store_vcap_services");
//!
//! // the value of that key, without its Base64
//! let value = br#"{"user-provided": [{"name": "pgservice", "label": "user-provided", "credentials": {
//!     "host": "wa-postgres-rw", "port": "5432", "database": "conversation_pprd_wa",
//!     "username": "dbadmin", "password": "s3cret"}}]}"#;
//! let connection = StoreConnection::from_vcap_services(value)?;
//! assert_eq!((connection.host.as_str(), connection.port), ("wa-postgres-rw", 5432));
//! assert!(!format!("{connection:?}").contains("s3cret"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod generation;
mod store_connection;

pub use generation::{Generation, ParseProductVersionError, ProductVersion, UnknownGeneration, VersionRange};
pub use store_connection::{StoreConnection, VcapServicesError};
