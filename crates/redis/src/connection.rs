//! Opens connections to nodes: TCP, TLS, authentication.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use custody_core::error::{ErrorName, StageError};
use redis::{ErrorKind, RedisError};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, sync::OnceCell, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    bulk::{BulkConnection, Stream, timed_out},
    credentials::{CredentialSource, Credentials},
    failure::Failure,
    settings::CacheSettings,
    topology::Address,
};

/// The encryption of connections.
#[derive(Clone, Debug)]
pub enum Tls {
    /// No encryption. For tests only.
    Off,
    /// TLS. The certificate of a node must contain the node's host name, and an authority in this PEM file must have
    /// signed it.
    Verified {
        /// The PEM file with the certificates of the trusted authorities.
        ca_bundle: PathBuf,
    },
}

/// The address of a cluster, and the encryption and credentials of connections to its nodes.
#[derive(Clone, Debug)]
pub struct ClusterConnection<C> {
    /// The host name of the configuration endpoint, or of any node.
    pub host: String,
    /// The port of that host.
    pub port: u16,
    /// The encryption of all connections.
    pub tls: Tls,
    /// The credentials for every node.
    pub credentials: C,
}

/// Opens authenticated connections to nodes.
#[derive(Debug)]
pub(crate) struct Connector<C> {
    tls: Tls,
    source: C,
    /// The credentials that the source returned last. All nodes have the same user, so they are read once for all
    /// nodes.
    known: Mutex<Option<Credentials>>,
    tls_config: OnceCell<Arc<ClientConfig>>,
    settings: CacheSettings,
}

impl<C: CredentialSource> Connector<C> {
    /// Creates a connector. It opens no connection yet.
    pub(crate) fn new(tls: Tls, source: C, settings: CacheSettings) -> Self {
        Self { tls, source, known: Mutex::default(), tls_config: OnceCell::new(), settings }
    }

    /// Opens a connection. If the node refuses the cached credentials, the connector reads the credentials again and
    /// retries once: they may have been rotated.
    pub(crate) async fn connect(&self, address: &Address) -> Result<BulkConnection, Failure> {
        let tls_config = self.tls_config().await.map_err(Failure::Unusable)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            match self.open(address, tls_config.clone(), known.as_ref()).await {
                Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {}
                result => return result.map_err(Into::into),
            }
        }
        let credentials = self.source.credentials().await.map_err(Failure::Unusable)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&credentials);
        let opened = self.open(address, tls_config, credentials.as_ref()).await;
        opened.map_err(|error| match error.kind() {
            ErrorKind::AuthenticationFailed => Failure::Refused(error),
            _ => error.into(),
        })
    }

    async fn open(
        &self,
        address: &Address,
        tls_config: Option<Arc<ClientConfig>>,
        credentials: Option<&Credentials>,
    ) -> Result<BulkConnection, RedisError> {
        let open = async {
            let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
            tcp.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match tls_config {
                None => Box::new(tcp),
                Some(config) => {
                    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
                    Box::new(TlsConnector::from(config).connect(name, tcp).await?)
                }
            };
            let mut connection = BulkConnection::new(stream, self.settings.stall_limit);
            if let Some(credentials) = credentials {
                let mut login = redis::cmd("AUTH");
                login.arg(&credentials.username).arg(credentials.password.expose());
                connection.ask(&login).await.map_err(authentication_error)?;
            }
            Ok(connection)
        };
        timeout(self.settings.connect_limit, open).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Returns the TLS configuration with the certificate bundle, which is read once. `None` if connections are not
    /// encrypted.
    async fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>, StageError> {
        let Tls::Verified { ca_bundle } = &self.tls else { return Ok(None) };
        let config = self
            .tls_config
            .get_or_try_init(async || read_bundle(ca_bundle).map_err(|error| no_bundle(ca_bundle, error)));
        config.await.map(|config| Some(Arc::clone(config)))
    }
}

fn read_bundle(ca_bundle: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_bundle).map_err(io::Error::other)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(io::Error::other)?;
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(io::Error::other("there is no certificate in it"));
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

fn no_bundle(ca_bundle: &Path, error: io::Error) -> StageError {
    StageError::new(
        ErrorName::ConfigurationInvalid,
        format!("read the certificate bundle {} (CACHE_CA_BUNDLE)", ca_bundle.display()),
    )
    .caused_by(error)
}

/// Classifies the error of an `AUTH` command. An error answer means that the credentials are wrong, whatever its code
/// is. Exceptions are the codes of a server or cluster that is not ready, and errors without an answer.
fn authentication_error(error: RedisError) -> RedisError {
    match error.code() {
        None | Some("LOADING" | "CLUSTERDOWN" | "TRYAGAIN") => error,
        Some(_) => {
            (ErrorKind::AuthenticationFailed, "AUTH was refused", error.code().unwrap_or_default().to_owned())
                .into()
        }
    }
}
