//! Starts what the measured functions run against: the cache, the AWS stub, and a configuration that points to both.

use std::fs;

use anyhow::Context as _;
use custody_redis_cluster::{RedisCluster, certificates::Certificates};

use crate::{
    aws_stub::{ACCESS_TABLE, AwsStub, Behaviour, RECORD_TABLE},
    latencies::Latencies,
    redis_link::{Login, RedisLink},
};

/// A cache cluster, whose shards have one replica each, and an AWS stub. The cluster ends with this value; the stub
/// serves until the process ends.
#[derive(Debug)]
pub struct Deployment {
    certificates: Certificates,
    cluster: RedisCluster,
    shards: usize,
    latencies: Latencies,
    stub: AwsStub,
}

/// The files with the certificate authorities that a function on AWS trusts, on Debian and on Amazon Linux. Reading
/// them is part of a function's start.
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

impl Deployment {
    /// Starts a cache of one shard, and a stub with these latencies. The replica is in sync when this returns.
    pub fn start(latencies: Latencies) -> anyhow::Result<Self> {
        Self::start_with_shards(1, latencies)
    }

    /// Starts a cache of `shards` shards with one replica each, and a stub with these latencies.
    pub fn start_with_shards(shards: usize, latencies: Latencies) -> anyhow::Result<Self> {
        let certificates = Certificates::create()?;
        let system = SYSTEM_BUNDLES.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let own = fs::read_to_string(certificates.file("ca.pem"))?;
        fs::write(certificates.file("bundle.pem"), own + &system).context("write a certificate bundle")?;
        let cluster = RedisCluster::start(shards, 1, Some(&certificates))?;
        let behaviour = Behaviour { latencies: latencies.clone(), ..Behaviour::default() };
        let stub = AwsStub::start(&certificates, behaviour)?;
        Ok(Self { certificates, cluster, shards, latencies, stub })
    }

    /// Returns the stub that functions use by default.
    pub fn stub(&self) -> &AwsStub {
        &self.stub
    }

    /// Returns the latencies of the default stub.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Starts another stub. A function uses it if `AWS_ENDPOINT_URL` has the value of [`AwsStub::endpoint`].
    pub fn another_stub(&self, behaviour: Behaviour) -> anyhow::Result<AwsStub> {
        AwsStub::start(&self.certificates, behaviour)
    }

    /// Opens an administrator's connection to the cache's first primary.
    pub fn redis(&self) -> anyhow::Result<RedisLink> {
        self.connect(0)
    }

    /// Opens an administrator's connection to each primary of the cache.
    pub fn primaries(&self) -> anyhow::Result<Vec<RedisLink>> {
        (0..self.shards).map(|shard| self.connect(shard)).collect()
    }

    fn connect(&self, node: usize) -> anyhow::Result<RedisLink> {
        let primary = self.cluster.node(node);
        let administrator = primary.administrator.as_ref().context("an encrypted cluster has users")?;
        let login = Login { username: &administrator.username, password: &administrator.password };
        RedisLink::connect(primary.port, &self.certificates.file("ca.pem"), login)
    }

    /// Returns the environment of a function, with every key that any function reads.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name| self.certificates.file(name).display().to_string();
        let mut environment = vec![
            ("AWS_ENDPOINT_URL", self.stub.endpoint()),
            ("SSL_CERT_FILE", file("bundle.pem")),
            ("CACHE_PORT", self.cluster.node(0).port.to_string()),
            ("CACHE_CA_BUNDLE", file("bundle.pem")),
            ("CUSTODY_BENCH_CA", file("ca.pem")),
        ];
        let fixed = [
            ("GLIBC_TUNABLES", custody_core::INGEST_ALLOCATOR),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "bench"),
            ("AWS_SECRET_ACCESS_KEY", "bench"),
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("LOG_LEVEL", "info"),
            ("RELEASE", "bench"),
            ("CACHE_HOST", "localhost"),
            ("CACHE_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:000000000000:secret:bench"),
            ("CACHE_DURABILITY", "disabled"),
            ("CACHE_ADMISSION", "open"),
            ("CACHE_REPLICAS", "1"),
            ("ARCHIVE_BUCKET", "archive"),
            ("FAILED_BUCKET", "failed"),
            ("MARKER_BUCKET", "markers"),
            ("ACCESS_TABLE", ACCESS_TABLE),
            ("ALLOWED_ORIGIN", "*"),
            ("UPLOAD_TABLE", "uploads"),
            ("STAGING_BUCKET", "staging"),
            ("REFERENCE_SOURCES", "none"),
            ("TOKEN_ISSUER", "https://issuer.example"),
            ("TOKEN_AUDIENCE", "custody"),
            ("TOKEN_CLAIM", "sub"),
            ("OPEN_TABLE", "open-records"),
            ("CLAIMS_TABLE", "claims"),
            ("TABLE_NAME", RECORD_TABLE),
            ("STATE_MACHINE_ARN", "arn:aws:states:us-east-1:000000000000:stateMachine:bench"),
            ("STATE_MACHINE_TYPE", "STANDARD"),
            ("FAILURE_FUNCTION", "failure"),
            ("DLQ_URL", "https://localhost/dlq"),
            ("REJECTED_QUEUE_URL", "https://localhost/rejected"),
            ("AUTO_REDRIVE", "false"),
            ("REDRIVE_MAX_ATTEMPTS", "3"),
            ("FIRST_LOOK_SECONDS", "120"),
            ("RESTART_AFTER_SECONDS", "360"),
            ("MAX_STARTS", "2000"),
            ("TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:topic"),
            ("EVENT_SOURCE", "urn:custody:bench"),
            ("STACK_NAME", "bench"),
        ];
        environment.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        environment
    }
}
