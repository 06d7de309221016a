//! The configuration of the cache.

use std::path::PathBuf;

use custody_redis::Level;

use super::Reader;

/// Where the cache is, how to be let in, and what makes a payload in it durable.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The host name of the cluster's configuration endpoint.
    pub host: String,
    /// Its TLS port.
    pub port: u16,
    /// The Secrets Manager secret that holds user and password.
    pub secret_arn: String,
    /// The PEM file of the authorities that may sign the nodes' certificates.
    pub ca_bundle: PathBuf,
    /// What makes a payload durable.
    pub level: Level,
    /// Whether the cache takes new payloads.
    pub admits: bool,
}

impl CacheConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let host = reader.text("CACHE_HOST");
        let port = reader.parsed("CACHE_PORT", "a port number", |text| text.parse().ok()).unwrap_or_default();
        let secret_arn = reader.text("CACHE_SECRET_ARN");
        let ca_bundle = PathBuf::from(reader.text("CACHE_CA_BUNDLE"));
        // What is in effect, as ElastiCache reports it, whatever was asked for: a receipt must not promise more.
        let durability =
            reader.parsed("CACHE_DURABILITY", "`sync`, `async` or `disabled`", |text| match text {
                "sync" | "async" | "disabled" => Some(text.to_owned()),
                _ => None,
            });
        // With none to confirm a payload, a receipt would promise what nobody keeps.
        let replicas = reader.parsed("CACHE_REPLICAS", "a number of replicas, at least 1", |text| {
            text.parse().ok().filter(|replicas| *replicas > 0)
        });
        let level = match durability.as_deref() {
            Some("sync") => Level::Sync,
            // A log that is written later has not got the payload when the receipt is sent.
            _ => Level::Replicas(replicas.unwrap_or(1)),
        };
        let admits = reader.parsed("CACHE_ADMISSION", "`open` or `closed`", |text| match text {
            "open" => Some(true),
            "closed" => Some(false),
            _ => None,
        });
        Self { host, port, secret_arn, ca_bundle, level, admits: admits.unwrap_or(true) }
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
        assert!(!read("sync", "1").unwrap().admits);
        for weaker in ["async", "disabled"] {
            assert_eq!(read(weaker, "2").unwrap().level, Level::Replicas(2), "{weaker}");
        }
        let error = read("default", "1").unwrap_err();
        assert!(error.contains("CACHE_DURABILITY is not `sync`, `async` or `disabled`"), "{error}");
        assert!(read("disabled", "0").unwrap_err().contains("CACHE_REPLICAS is not a number of replicas"));
    }
}
