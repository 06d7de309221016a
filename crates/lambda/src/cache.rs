//! The cache as a function's configuration describes it: encrypted, with a user and a password from Secrets Manager.

use custody_aws::stage_error;
use custody_core::{
    error::{ErrorName, StageError},
    secret::Secret,
};
use custody_redis::{CacheSettings, ClusterCache, ClusterConnection, CredentialSource, Credentials, Tls};

use crate::config::CacheConfig;

/// The payload cache of a function.
pub type FunctionCache = ClusterCache<SecretsManagerCredentials>;

impl CacheConfig {
    /// Returns the cache that this configuration describes. The first call connects.
    pub fn client(self, secrets: aws_sdk_secretsmanager::Client) -> FunctionCache {
        let connection = ClusterConnection {
            host: self.host,
            port: self.port,
            tls: Tls::Verified { ca_bundle: self.ca_bundle },
            credentials: SecretsManagerCredentials::new(secrets, self.secret_arn),
        };
        let settings =
            CacheSettings { accepts_payloads: self.accepts_payloads, ..CacheSettings::new(self.level) };
        ClusterCache::new(connection, settings)
    }
}

/// Credentials in Secrets Manager.
#[derive(Clone, Debug)]
pub struct SecretsManagerCredentials {
    client: aws_sdk_secretsmanager::Client,
    secret_arn: String,
}

impl SecretsManagerCredentials {
    /// Creates a source that reads the secret with this ARN. The secret is a JSON object with the fields `username` and
    /// `password`.
    pub fn new(client: aws_sdk_secretsmanager::Client, secret_arn: String) -> Self {
        Self { client, secret_arn }
    }
}

/// The JSON object in the secret.
#[derive(serde::Deserialize)]
struct Content {
    username: String,
    password: String,
}

impl CredentialSource for SecretsManagerCredentials {
    async fn credentials(&self) -> Result<Option<Credentials>, StageError> {
        let operation = "read the credentials of the cache from Secrets Manager";
        let secret = self
            .client
            .get_secret_value()
            .secret_id(&self.secret_arn)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::CacheUnavailable, operation))?;
        parse(secret.secret_string().unwrap_or_default()).map(Some).ok_or_else(|| {
            StageError::new(
                ErrorName::ConfigurationInvalid,
                format!("{operation}: the secret is not {{\"username\": …, \"password\": …}}"),
            )
        })
    }
}

/// Parses the text of a secret. The result has no error message, because the parser's message could quote the secret.
fn parse(text: &str) -> Option<Credentials> {
    let Content { username, password } = serde_json::from_str(text).ok()?;
    Some(Credentials { username, password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_username_and_password() {
        let read = parse(r#"{"username":"custody","password":"s3cret"}"#).unwrap();
        assert_eq!((read.username.as_str(), read.password.expose()), ("custody", "s3cret"));
        assert!(!format!("{read:?}").contains("s3cret"));
        for text in ["", "s3cret", r#"{"password":"s3cret"}"#, r#"{"username":"custody"}"#] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
