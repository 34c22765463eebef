//! The Resource Controller: the service that knows which instances are provisioned.

mod config;

pub use config::{AccessToken, InstanceKind, ResourceControllerConfig, UnknownKind};
