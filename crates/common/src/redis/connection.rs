//! One connection to Redis that is made when it is first needed and made again when it is lost.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use custody_core::error::{ErrorName, StageError};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    RedisResult, TlsCertificates, aio::MultiplexedConnection,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    net::TcpStream,
    sync::{Mutex, OnceCell},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::bulk::{BulkConnection, Stream};
use crate::{
    aws::classify::stage_error,
    config::{RedisConfig, Secret},
};

/// How long to wait for a connection, TLS handshake and AUTH included. A cache that is not there must not eat
/// the time of a request that the archive can still take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for an answer: 6 MB over a slow link, and the replicas' confirmation.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether and how the connection is encrypted.
#[derive(Clone, Debug)]
pub enum Tls {
    /// It is not. For tests.
    Off,
    /// It is, and the server's certificate must be signed by an authority in this PEM file.
    Verified {
        /// The PEM file.
        ca_bundle: PathBuf,
    },
}

/// Where the password comes from, asked at every new connection: passwords rotate.
pub trait PasswordSource: Send + Sync {
    /// The password, or `None` where the server wants none.
    fn password(&self) -> impl Future<Output = Result<Option<Secret>, StageError>> + Send;
}

/// A password in Secrets Manager.
#[derive(Clone, Debug)]
pub struct SecretsManagerPassword {
    client: aws_sdk_secretsmanager::Client,
    secret_arn: String,
}

impl SecretsManagerPassword {
    /// The password in the secret with this ARN: the field `password` of a JSON object.
    pub fn new(client: aws_sdk_secretsmanager::Client, secret_arn: String) -> Self {
        Self { client, secret_arn }
    }
}

/// The content of the secret.
#[derive(serde::Deserialize)]
struct Content {
    password: String,
}

impl PasswordSource for SecretsManagerPassword {
    async fn password(&self) -> Result<Option<Secret>, StageError> {
        let operation = "read the Redis password from Secrets Manager";
        let secret = self
            .client
            .get_secret_value()
            .secret_id(&self.secret_arn)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::CacheUnavailable, operation))?;
        // The parser's own message could quote the secret.
        let content: Content =
            serde_json::from_str(secret.secret_string().unwrap_or_default()).map_err(|_| {
                StageError::new(
                    ErrorName::ConfigurationInvalid,
                    format!("{operation}: the secret is not {{\"password\": …}}"),
                )
            })?;
        Ok(Some(Secret::new(content.password)))
    }
}

/// A connection that mends itself.
#[derive(Debug)]
pub struct RedisConnection<P> {
    /// The host name.
    pub host: String,
    /// The port.
    pub port: u16,
    tls: Tls,
    password: P,
    current: Mutex<Option<MultiplexedConnection>>,
    bulk: Mutex<Option<BulkConnection>>,
    tls_config: OnceCell<Arc<ClientConfig>>,
}

impl RedisConnection<SecretsManagerPassword> {
    /// The connection that a function's configuration describes: encrypted, with a password.
    pub fn from_config(config: RedisConfig, secrets: aws_sdk_secretsmanager::Client) -> Self {
        let password = SecretsManagerPassword::new(secrets, config.secret_arn);
        Self::new(config.host, config.port, Tls::Verified { ca_bundle: config.ca_bundle }, password)
    }
}

impl<P: PasswordSource> RedisConnection<P> {
    /// A connection to be, to `host:port`.
    pub fn new(host: String, port: u16, tls: Tls, password: P) -> Self {
        Self {
            host,
            port,
            tls,
            password,
            current: Mutex::new(None),
            bulk: Mutex::new(None),
            tls_config: OnceCell::new(),
        }
    }

    /// Runs `call` on the connection. A call that finds the connection dead runs once more on a new one, so it
    /// must be one that may be repeated. Between two invocations a function sleeps, and its connections die.
    pub(super) async fn run<T, F>(
        &self,
        operation: impl Fn() -> String,
        call: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, StageError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref() {
            match call(connection.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) if is_dead(&error) => *current = None,
                Err(error) => return Err(unavailable(operation(), error)),
            }
        }
        let connection = self.connect().await?;
        match call(connection.clone()).await {
            Ok(value) => {
                *current = Some(connection);
                Ok(value)
            }
            Err(error) => Err(unavailable(operation(), error)),
        }
    }

    /// Runs `call` on the connection for payloads, which it gives back with its result. Like [`run`](Self::run), it does so
    /// once more where it finds the connection dead.
    pub(super) async fn run_bulk<T, F>(
        &self,
        operation: impl Fn() -> String,
        call: impl Fn(BulkConnection) -> F,
    ) -> Result<T, StageError>
    where
        F: Future<Output = (BulkConnection, RedisResult<T>)>,
    {
        let mut current = self.bulk.lock().await;
        // Taken out, and put back after success: a caller may give up with half a payload sent.
        if let Some(connection) = current.take() {
            let (connection, result) = respond_within(call(connection)).await;
            match result {
                Err(error) if is_dead(&error) => {}
                result => {
                    *current = connection.filter(|_| is_in_step(&result));
                    return result.map_err(|error| unavailable(operation(), error));
                }
            }
        }
        let (connection, result) = respond_within(call(self.connect_bulk().await?)).await;
        *current = connection.filter(|_| is_in_step(&result));
        result.map_err(|error| unavailable(operation(), error))
    }

    /// Makes the next call use a new connection.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
        *self.bulk.lock().await = None;
    }

    async fn connect_bulk(&self) -> Result<BulkConnection, StageError> {
        let operation = || format!("connect to Redis at {}:{}", self.host, self.port);
        let password = self.password.password().await?;
        let tls_config = self.tls_config().await?;
        let open = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tcp.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match tls_config {
                None => Box::new(tcp),
                Some(config) => {
                    let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
                    Box::new(TlsConnector::from(config).connect(name, tcp).await?)
                }
            };
            BulkConnection::open(stream, password.as_ref().map(Secret::expose)).await
        };
        let opened = timeout(CONNECT_TIMEOUT, open).await;
        opened.unwrap_or_else(|_| Err(timed_out())).map_err(|error| unavailable(operation(), error))
    }

    /// What the certificate bundle makes of TLS, read once. `None` where there is no encryption.
    async fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>, StageError> {
        let Tls::Verified { ca_bundle } = &self.tls else { return Ok(None) };
        let read = || {
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(ca_bundle).map_err(io::Error::other)?;
            let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(io::Error::other)?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(io::Error::other("there is no certificate in it"));
            }
            Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
        };
        let config =
            self.tls_config.get_or_try_init(async || read().map_err(|error| no_bundle(ca_bundle, error)));
        config.await.map(|config| Some(Arc::clone(config)))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StageError> {
        let operation = || format!("connect to Redis at {}:{}", self.host, self.port);
        let password = self.password.password().await?;
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = &password {
            settings = settings.set_password(password.expose());
        }
        let client = match &self.tls {
            Tls::Off => ConnectionAddr::Tcp(self.host.clone(), self.port)
                .into_connection_info()
                .and_then(|info| Client::open(info.set_redis_settings(settings))),
            Tls::Verified { ca_bundle } => {
                let root_cert = std::fs::read(ca_bundle).map_err(|error| no_bundle(ca_bundle, error))?;
                ConnectionAddr::TcpTls {
                    host: self.host.clone(),
                    port: self.port,
                    insecure: false,
                    tls_params: None,
                }
                .into_connection_info()
                .and_then(|info| {
                    let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
                    Client::build_with_tls(info.set_redis_settings(settings), certificates)
                })
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = client.map_err(|error| unavailable(operation(), error))?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| unavailable(operation(), error))
    }
}

/// Whether a call failed because of its connection and not because of what it asked.
///
/// A primary that became a replica answers `READONLY`, or aborts a transaction over it: only a new connection, to
/// whatever the host name stands for now, finds the new primary. `OOM` is an answer like any other.
fn is_dead(error: &RedisError) -> bool {
    let aborted = error.code() == Some("EXECABORT") && !error.to_string().contains("OOM");
    error.is_unrecoverable_error() || error.is_io_error() || aborted || error.code() == Some("READONLY")
}

/// The result of a call, and its connection unless the call was given up.
async fn respond_within<C, T>(
    call: impl Future<Output = (C, RedisResult<T>)>,
) -> (Option<C>, RedisResult<T>) {
    match timeout(RESPONSE_TIMEOUT, call).await {
        Ok((connection, result)) => (Some(connection), result),
        Err(_) => (None, Err(timed_out())),
    }
}

/// Whether every answer to a call was read: it succeeded, or the server refused it.
fn is_in_step<T>(result: &RedisResult<T>) -> bool {
    result.as_ref().err().is_none_or(|error| error.code().is_some() && !is_dead(error))
}

fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn no_bundle(ca_bundle: &Path, error: io::Error) -> StageError {
    StageError::new(
        ErrorName::ConfigurationInvalid,
        format!("read the certificate bundle {} (REDIS_CA_BUNDLE)", ca_bundle.display()),
    )
    .caused_by(error)
}

fn unavailable(operation: String, error: RedisError) -> StageError {
    StageError::new(ErrorName::CacheUnavailable, operation).caused_by(error)
}
