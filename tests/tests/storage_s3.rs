//! A bucket as a place for backups: the real store, behind a proxy that misbehaves.

use pgmig_tests::s3::S3Server;
use storage_backends::conformance;
use storage_backends::s3::S3;

#[tokio::test]
async fn a_bucket_behaves_as_every_backend_does() {
    let server = S3Server::shared();
    let mut config = server.config("conformance");
    let whole = S3::connect_or_create(config.clone()).await.unwrap();
    conformance::check(&whole, "conformance").await;
    config.prefix = "prod/backups".into();
    conformance::check(&S3::connect(config).await.unwrap(), "conformance").await;
}
