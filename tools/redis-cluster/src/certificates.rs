//! Certificates for tests. Their files are deleted with the value.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// A temporary folder with these files: `ca.pem`, the certificate of an authority; `cert.pem` and `key.pem`, a
/// certificate for `localhost` that this authority has signed, and its key; and `foreign-ca.pem`, the certificate of an
/// authority that has signed nothing.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// Creates the folder and its files.
    pub fn create() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (trusted, foreign) = (authority("trusted")?, authority("foreign")?);
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names)?.signed_by(&key, &trusted)?;
        for (name, content) in [
            ("ca.pem", trusted.pem()),
            ("foreign-ca.pem", foreign.pem()),
            ("cert.pem", leaf.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            fs::write(folder.path().join(name), content)?;
        }
        Ok(Self(folder))
    }

    /// Returns the path of the folder.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of one of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn authority(common_name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
