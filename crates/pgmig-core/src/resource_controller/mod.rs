//! The Resource Controller: the service that knows which instances are provisioned.

mod client;
mod config;
mod error;

pub use client::{ClientOptions, ConnectionTest, ResourceController, ServiceInstance, TokenTest};
pub use config::{AccessToken, InstanceKind, ResourceControllerConfig, UnknownKind};
pub use error::{Error, ErrorKind, RefusedToken};
