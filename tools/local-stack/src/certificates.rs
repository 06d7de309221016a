//! Creates a stack's certificate authority, and the certificate that MiniStack and Redis present.

use std::path::Path;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::files::write_private;

/// Writes `tls/ca.pem`, `tls/cert.pem` and `tls/key.pem` into a stack's folder. The authority's key is not stored,
/// because it signs only this certificate.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    let tls = folder.join("tls");
    std::fs::create_dir_all(&tls).with_context(|| format!("make {}", tls.display()))?;

    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Custody local stack");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority)?;

    write_private(&tls.join("ca.pem"), &authority.pem())?;
    write_private(&tls.join("cert.pem"), &certificate.pem())?;
    write_private(&tls.join("key.pem"), &key.serialize_pem())
}
