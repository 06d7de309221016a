//! What the functions under measure run against: Redis, the AWS stub, and a configuration that leads there.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, bail};
use custody_test_support::{certificates::Certificates, redis_server::RedisServer};

use crate::{
    aws_stub::AwsStub,
    redis_link::{RedisLink, Reply},
};

/// A primary, its replica, and the stub. They end with this value.
#[derive(Debug)]
pub struct Deployment {
    certificates: Certificates,
    primary: RedisServer,
    _replica: RedisServer,
    stub: AwsStub,
}

/// Where Debian and Amazon Linux keep the authorities that a function on AWS trusts: reading them is part of its start.
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

impl Deployment {
    /// Starts everything, and waits until the replica confirms writes.
    pub fn start() -> anyhow::Result<Self> {
        let certificates = Certificates::create()?;
        let system = SYSTEM_BUNDLES.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let own = fs::read_to_string(certificates.file("ca.pem"))?;
        fs::write(certificates.file("bundle.pem"), own + &system).context("write a certificate bundle")?;
        let primary = RedisServer::encrypted(&certificates)?;
        let replica = RedisServer::replica(&certificates, primary.port())?;
        let stub = AwsStub::start(&certificates)?;
        let deployment = Self { certificates, primary, _replica: replica, stub };
        let mut redis = deployment.redis()?;
        for _ in 0..200 {
            redis.run(&[b"SET", b"probe", b""])?;
            if redis.run(&[b"WAIT", b"1", b"100"])? == Reply::Integer(1) {
                return Ok(deployment);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the replica confirms no write")
    }

    /// A connection of one's own to the primary.
    pub fn redis(&self) -> anyhow::Result<RedisLink> {
        RedisLink::connect(self.primary.port(), &self.certificates.file("ca.pem"))
    }

    /// The environment of a function: every key that any of them reads.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name| -> PathBuf { self.certificates.file(name) };
        let own_authority = file("ca.pem").display().to_string();
        let mut environment = vec![
            // A number, because S3's client puts a bucket's name in front of a name.
            ("AWS_ENDPOINT_URL", format!("https://127.0.0.1:{}", self.stub.port)),
            ("SSL_CERT_FILE", file("bundle.pem").display().to_string()),
            ("REDIS_PORT", self.primary.port().to_string()),
            ("REDIS_CA_BUNDLE", file("bundle.pem").display().to_string()),
            ("CUSTODY_BENCH_CA", own_authority),
        ];
        let fixed = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "bench"),
            ("AWS_SECRET_ACCESS_KEY", "bench"),
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("LOG_LEVEL", "info"),
            ("REDIS_HOST", "localhost"),
            ("REDIS_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:000000000000:secret:bench"),
            ("REDIS_REPLICAS", "1"),
            ("ARCHIVE_BUCKET", "archive"),
            ("PENDING_BUCKET", "pending"),
            ("FAILED_BUCKET", "failed"),
            ("STATE_MACHINE_ARN", "arn:aws:states:us-east-1:000000000000:stateMachine:bench"),
            ("FAILURE_FUNCTION", "failure"),
            ("TABLE_NAME", "records"),
            ("DLQ_URL", "https://localhost/dlq"),
            ("REDRIVE_QUEUE_URL", "https://localhost/redrive"),
            ("AUTO_REDRIVE", "false"),
            ("REDRIVE_MAX_ATTEMPTS", "3"),
            ("RECONCILE_AFTER_SECONDS", "60"),
            ("TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:topic"),
            ("EVENT_SOURCE", "urn:custody:bench"),
            ("STACK_NAME", "bench"),
        ];
        environment.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        environment
    }
}
