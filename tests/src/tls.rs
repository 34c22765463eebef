//! Certificates for servers.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Writes `ca.crt`, `server.crt` and `server.key` in PEM, the server's for these host names and addresses.
///
/// # Panics
///
/// When they cannot be made or written.
pub fn write_certificates(folder: &Path, names: &[&str]) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "pgmig test authority");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate().expect("a key");
    let ca_certificate = ca.self_signed(&ca_key).expect("the authority signs itself");
    let issuer = Issuer::new(ca, ca_key);

    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut server = CertificateParams::new(names.clone()).expect("names that a certificate can carry");
    server.distinguished_name.push(DnType::CommonName, names[0].as_str());
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let server_key = KeyPair::generate().expect("a key");
    let server_certificate = server.signed_by(&server_key, &issuer).expect("the authority signs");

    let key_file = folder.join("server.key");
    for (path, pem) in [
        (folder.join("ca.crt"), ca_certificate.pem()),
        (folder.join("server.crt"), server_certificate.pem()),
        (key_file.clone(), server_key.serialize_pem()),
    ] {
        fs::write(&path, pem).unwrap_or_else(|why| panic!("cannot write `{}`: {why}", path.display()));
    }
    // PostgreSQL refuses a key that others could read
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("the key's mode can be set");
}
