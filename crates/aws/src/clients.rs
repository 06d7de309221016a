//! One configuration and one HTTP client for all services.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;

/// Creates the clients of all services. A client is created at each call; all clients share connections.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
}

impl Aws {
    /// Reads region, credentials and endpoint from the standard AWS settings (`AWS_REGION`, `AWS_ENDPOINT_URL`, …).
    ///
    /// The timeouts are set so that two tries of the largest upload fit API Gateway's 29 seconds. The state machine
    /// retries whole stages.
    pub async fn load() -> Self {
        let http_client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(Duration::from_secs(6))
            .operation_timeout(Duration::from_secs(10))
            .build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            .load()
            .await;
        Self { config }
    }

    /// Creates clients for calls that a producer waits for. A call has two tries of at most `attempt` each, instead of
    /// three tries of at most six seconds, so that a dead connection costs one short try.
    #[must_use]
    pub fn with_short_retries(&self, attempt: Duration) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(attempt).operation_attempt_timeout(attempt);
        let retries =
            RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(50));
        let config = self.config.to_builder().timeout_config(timeouts.build()).retry_config(retries).build();
        Self { config }
    }

    /// Creates clients for calls that may take as long as `limit`, such as a copy of a large object. Meanwhile the service may send
    /// no byte, or a blank now and then.
    #[must_use]
    pub fn with_long_calls(&self, limit: Duration) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(Duration::from_secs(2)).operation_timeout(limit).build();
        let config = self.config.to_builder().timeout_config(timeouts);
        let protection = StalledStreamProtectionConfig::disabled();
        Self { config: config.stalled_stream_protection(protection).build() }
    }

    /// Returns the configuration that all clients share, for services that only tools use.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Creates an S3 client.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::new(&self.config)
    }

    /// Creates a DynamoDB client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// Creates a Step Functions client.
    pub fn step_functions(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&self.config)
    }

    /// Creates an SNS client.
    pub fn sns(&self) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::new(&self.config)
    }

    /// Creates an SQS client.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// Creates a Lambda client.
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(&self.config)
    }

    /// Creates a Secrets Manager client.
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }
}
