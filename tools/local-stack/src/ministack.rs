//! Runs MiniStack with TLS and with IAM enforced, as on AWS.

use std::{process::Command, time::Duration};

use crate::{Running, process, tools::Python, workspace};

/// Starts MiniStack. MiniStack passes its own environment to the functions that it runs. It therefore gets a clean
/// environment, with the variables that make functions trust the stack's authority.
pub(crate) fn start(running: &Running, python: &Python) -> anyhow::Result<()> {
    let folder = &running.folder;
    let tls = folder.join("tls");
    let mut command: Command = python.command("python");
    command
        .env_clear()
        .arg(workspace::python_files().join("emulator.py"))
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", python.bin().display()))
        .env("GATEWAY_PORT", running.ports.gateway.to_string())
        .env("BIND_HOST", "127.0.0.1")
        .env("AUTH", "true")
        .env("AWS_ENDPOINT_URL", running.endpoint())
        .env("USE_SSL", "1")
        .env("MINISTACK_SSL_CERT", tls.join("cert.pem"))
        .env("MINISTACK_SSL_KEY", tls.join("key.pem"))
        .env("IOT_MTLS_ENABLED", "0")
        .env("SSL_CERT_FILE", running.ca_file())
        .env("AWS_CA_BUNDLE", running.ca_file())
        .env("REDIS_HOST", "127.0.0.1")
        .env("REDIS_PORT", running.ports.cache[0].client.to_string())
        .env("S3_DATA_DIR", folder.join("s3"))
        // Stored data survives a restart, as on AWS.
        .env("S3_PERSIST", "1")
        .env("PERSIST_STATE", "1")
        .env("STATE_DIR", folder.join("state"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // The limit of functions that run at once: a burst of requests would otherwise start hundreds of processes.
        // Above the limit, the API answers 429.
        .env("LAMBDA_ACCOUNT_CONCURRENCY", "96")
        // The retries of the state machine wait a tenth of their time, which is long enough to outlast a burst.
        .env("SFN_WAIT_SCALE", "0.1");
    process::start(folder, "ministack", &mut command)?;
    process::wait_for_port(running.ports.gateway, "MiniStack", Duration::from_mins(3))
}
