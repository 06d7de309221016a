//! The configuration keys of the cache.

use std::path::PathBuf;

use custody_redis::Level;

use super::Reader;

/// The configuration of the cache: its address, its credentials, and the level of durability.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The host name of the cluster's configuration endpoint.
    pub host: String,
    /// The TLS port of the configuration endpoint.
    pub port: u16,
    /// The ARN of the Secrets Manager secret with the user name and the password.
    pub secret_arn: String,
    /// The PEM file of the authorities that may sign the nodes' certificates.
    pub ca_bundle: PathBuf,
    /// The condition under which a payload counts as durable.
    pub level: Level,
    /// Whether the cache accepts new payloads.
    pub accepts_payloads: bool,
}

impl CacheConfig {
    /// Reads the configuration keys of the cache.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let host = reader.text("CACHE_HOST");
        let port = reader.parsed("CACHE_PORT", "a port number", |text| text.parse().ok()).unwrap_or_default();
        let secret_arn = reader.text("CACHE_SECRET_ARN");
        let ca_bundle = PathBuf::from(reader.text("CACHE_CA_BUNDLE"));
        // The durability that is in effect, as ElastiCache reports it, not the one that the template requested: a
        // receipt must not promise more than is in effect.
        let durability =
            reader.parsed("CACHE_DURABILITY", "`sync`, `async` or `disabled`", |text| match text {
                "sync" | "async" | "disabled" => Some(text.to_owned()),
                _ => None,
            });
        // With 0 replicas to confirm a payload, a receipt would promise a copy that does not exist.
        let replicas = reader.parsed("CACHE_REPLICAS", "a number of replicas, at least 1", |text| {
            text.parse().ok().filter(|replicas| *replicas > 0)
        });
        let level = match durability.as_deref() {
            Some("sync") => Level::Sync,
            // An asynchronous log may not contain the payload yet when the receipt is sent, so replicas must confirm
            // it.
            _ => Level::Replicas(replicas.unwrap_or(1)),
        };
        let accepts_payloads = reader.parsed("CACHE_ADMISSION", "`open` or `closed`", |text| match text {
            "open" => Some(true),
            "closed" => Some(false),
            _ => None,
        });
        Self { host, port, secret_arn, ca_bundle, level, accepts_payloads: accepts_payloads.unwrap_or(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_lookup;

    fn read(durability: &str, replicas: &str) -> Result<CacheConfig, String> {
        let lookup = |key: &str| match key {
            "CACHE_PORT" => Some("6379".to_owned()),
            "CACHE_DURABILITY" => Some(durability.to_owned()),
            "CACHE_REPLICAS" => Some(replicas.to_owned()),
            "CACHE_ADMISSION" => Some("closed".to_owned()),
            _ => Some("text".to_owned()),
        };
        from_lookup(&lookup, CacheConfig::read).0.map_err(|error| error.to_string())
    }

    #[test]
    fn the_level_is_what_is_in_effect() {
        assert_eq!(read("sync", "1").unwrap().level, Level::Sync);
        assert!(!read("sync", "1").unwrap().accepts_payloads);
        for weaker in ["async", "disabled"] {
            assert_eq!(read(weaker, "2").unwrap().level, Level::Replicas(2), "{weaker}");
        }
        let error = read("default", "1").unwrap_err();
        assert!(error.contains("CACHE_DURABILITY is not `sync`, `async` or `disabled`"), "{error}");
        assert!(read("disabled", "0").unwrap_err().contains("CACHE_REPLICAS is not a number of replicas"));
    }
}
