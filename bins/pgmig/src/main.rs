//! `pgmig` restores a database backup into another installation.
fn main() {}
