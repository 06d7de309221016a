//! A real `redis-server` that lives as long as a test.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::certificates::Certificates;

/// The password of encrypted servers.
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// A server on a port of its own, ended when dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: u16,
    _data: TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl RedisServer {
    /// Without encryption and password.
    pub fn plain() -> anyhow::Result<Self> {
        Self::start(&["--port", "PORT"])
    }

    /// With TLS only, and [`PASSWORD`].
    pub fn encrypted(certificates: &Certificates) -> anyhow::Result<Self> {
        Self::encrypted_with(certificates, &[])
    }

    /// A replica of an encrypted server on `primary`, likewise encrypted.
    pub fn replica(certificates: &Certificates, primary: u16) -> anyhow::Result<Self> {
        let replicate = ["--replicaof", "127.0.0.1", &primary.to_string()];
        Self::encrypted_with(certificates, &replicate)
    }

    fn encrypted_with(certificates: &Certificates, more: &[&str]) -> anyhow::Result<Self> {
        let file = |name| certificates.file(name).display().to_string();
        let (authority, certificate, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        let tls =
            ["--port", "0", "--tls-port", "PORT", "--tls-auth-clients", "no", "--tls-replication", "yes"];
        let files =
            ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &authority];
        let password = ["--requirepass", PASSWORD, "--masterauth", PASSWORD];
        Self::start(&[&tls[..], &files, &password, more].concat())
    }

    /// Starts a server with these options beside the common ones. `PORT` in an option stands for its port.
    pub fn start(options: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let folder = data.path().display().to_string();
        let common = [
            &["--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "noeviction"][..],
            &["--repl-diskless-sync-delay", "0", "--dir", &folder],
        ]
        .concat();
        // Another process may take the port in between; then the server ends, and the next port is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let arguments =
                common.iter().chain(options).map(|option| option.replace("PORT", &port.to_string()));
            let log = data.path().join("log");
            let mut process = Command::new(program())
                .args(arguments)
                .stdout(File::create(&log)?)
                .spawn()
                .with_context(|| format!("start {}", program()))?;
            let deadline = Instant::now() + Duration::from_secs(20);
            // Its own word, because whoever answers on the port may be the other process.
            let is_ready =
                || fs::read_to_string(&log).is_ok_and(|text| text.contains("Ready to accept connections"));
            while process.try_wait()?.is_none() && Instant::now() < deadline {
                if is_ready() {
                    return Ok(Self { process, port, _data: data });
                }
                thread::sleep(Duration::from_millis(10));
            }
            process.kill().ok();
            process.wait().ok();
        }
        bail!("{} does not start with {options:?}", program())
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

#[expect(clippy::disallowed_methods, reason = "the task runner says where it found or installed the server")]
pub(crate) fn program() -> String {
    std::env::var("CUSTODY_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}
