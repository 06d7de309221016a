//! TLS on blocking sockets, with the library that the functions use.

use std::{net::TcpStream, path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

/// The client's side of a connection.
pub type ClientStream = StreamOwned<ClientConnection, TcpStream>;

/// The server's side of a connection.
pub type ServerStream = StreamOwned<ServerConnection, TcpStream>;

/// Connects to `localhost:port`. An authority in this PEM file must have signed the server's certificate.
pub fn connect(port: u16, ca_file: &Path) -> anyhow::Result<ClientStream> {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(ca_file).with_context(|| format!("read {}", ca_file.display()))?
    {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("connect to port {port}"))?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, tcp))
}

/// Returns the TLS configuration of a server with this certificate and key.
pub fn server_config(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(certificate).context("read the stub's certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("read the stub's key")?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}

/// Accepts a TLS connection.
pub fn accept(config: Arc<ServerConfig>, tcp: TcpStream) -> anyhow::Result<ServerStream> {
    tcp.set_nodelay(true)?;
    Ok(StreamOwned::new(ServerConnection::new(config)?, tcp))
}
