//! A cluster for tests, and caches that use it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use custody_core::{
    error::{ErrorName, StageError},
    ports::PayloadCache,
    record_id::RecordId,
    secret::Secret,
    testing::samples,
};
use custody_redis::{
    CacheSettings, ClusterCache, ClusterConnection, CredentialSource, Credentials, Level, Tls,
};
use custody_redis_cluster::{PASSWORD, RedisCluster, USERNAME, admin::Node, certificates::Certificates};

pub(crate) type Cache = ClusterCache<Login>;

/// The credentials of a user, which a test may change.
#[derive(Clone, Debug)]
pub(crate) struct Login(Arc<Mutex<Option<Credentials>>>);

impl Login {
    fn new(login: Option<(&str, &str)>) -> Self {
        Self(Arc::new(Mutex::new(login.map(credentials))))
    }

    /// Changes the password, as somebody does who rotates it.
    pub(crate) fn change(&self, login: (&str, &str)) {
        *self.0.lock().unwrap() = Some(credentials(login));
    }
}

fn credentials((username, password): (&str, &str)) -> Credentials {
    Credentials { username: username.to_owned(), password: Secret::new(password.to_owned()) }
}

impl CredentialSource for Login {
    async fn credentials(&self) -> Result<Option<Credentials>, StageError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// A cluster, and the certificates that its clients need.
pub(crate) struct Fixture {
    pub(crate) cluster: RedisCluster,
    pub(crate) certificates: Option<Certificates>,
}

impl Fixture {
    pub(crate) fn plain(shards: usize, replicas: usize) -> Self {
        Self { cluster: RedisCluster::start(shards, replicas, None).unwrap(), certificates: None }
    }

    pub(crate) fn encrypted(shards: usize, replicas: usize) -> Self {
        let certificates = Certificates::create().unwrap();
        let cluster = RedisCluster::start(shards, replicas, Some(&certificates)).unwrap();
        Self { cluster, certificates: Some(certificates) }
    }

    /// Creates a cache with the settings of functions, but with shorter time limits.
    pub(crate) fn cache(&self, level: Level) -> Cache {
        self.cache_with(settings(level))
    }

    pub(crate) fn cache_with(&self, settings: CacheSettings) -> Cache {
        match &self.certificates {
            None => self.cache_of(Tls::Off, None, settings),
            Some(certificates) => {
                let tls = Tls::Verified { ca_bundle: certificates.file("ca.pem") };
                self.cache_of(tls, Some(PASSWORD), settings)
            }
        }
    }

    pub(crate) fn cache_of(
        &self,
        tls: Tls,
        password: Option<&'static str>,
        settings: CacheSettings,
    ) -> Cache {
        self.cache_from(self.cluster.node(0), tls, password, settings)
    }

    /// Creates a cache that finds the cluster through the node `seed`.
    #[expect(clippy::unused_self, reason = "ties a cache to its cluster")]
    pub(crate) fn cache_from(
        &self,
        seed: &Node,
        tls: Tls,
        password: Option<&'static str>,
        settings: CacheSettings,
    ) -> Cache {
        let login = Login::new(password.map(|password| (USERNAME, password)));
        let host = "localhost".to_owned();
        let connection = ClusterConnection { host, port: seed.port, tls, credentials: login };
        ClusterCache::new(connection, settings)
    }

    /// Creates a cache that logs in as this user, and the login, which the test may change.
    pub(crate) fn cache_as(&self, user: &str, settings: CacheSettings) -> (Cache, Login) {
        let login = Login::new(Some((user, PASSWORD)));
        let ca_bundle = self.certificates.as_ref().unwrap().file("ca.pem");
        let connection = ClusterConnection {
            host: "localhost".to_owned(),
            port: self.cluster.node(0).port,
            tls: Tls::Verified { ca_bundle },
            credentials: login.clone(),
        };
        (ClusterCache::new(connection, settings), login)
    }

    /// Returns a new record id whose key belongs to a slot of this shard.
    pub(crate) fn record_of(&self, shard: usize) -> RecordId {
        loop {
            let id = samples::record_id();
            if self.shard_of(id) == shard {
                return id;
            }
        }
    }

    /// Returns the shard of a record, according to the slot ranges at the start of the cluster.
    pub(crate) fn shard_of(&self, id: RecordId) -> usize {
        let shards = self.cluster.replica_of(0);
        usize::from(self.slot_of(id)) * shards / 16_384
    }

    /// Returns the slot of a record's key, as a node calculates it.
    pub(crate) fn slot_of(&self, id: RecordId) -> u16 {
        let key = format!("rec:{id}");
        let node = self.cluster.nodes().find(|node| node.is_serving()).unwrap();
        node.run(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)).unwrap()
    }
}

/// Returns the settings of functions with shorter time limits, and with a breaker pause of zero, so that no test has to
/// wait for its end.
pub(crate) fn settings(level: Level) -> CacheSettings {
    CacheSettings {
        replication_timeout: Duration::from_secs(1),
        breaker_pause: Duration::ZERO,
        ..CacheSettings::new(level)
    }
}

/// Puts a payload that must be refused, and returns the error message.
pub(crate) async fn put_error(cache: &Cache, id: RecordId) -> String {
    let error = cache.put(id, Bytes::from_static(b"payload")).await.unwrap_err();
    assert_eq!(error.name, ErrorName::CacheUnavailable, "{error}");
    let text = error.to_string();
    assert!(!text.contains(PASSWORD) && !text.contains("wrong-password"), "{text}");
    text
}

/// Repeats a `put` until it succeeds, because the cluster is changing.
pub(crate) async fn put_until_ok(cache: &Cache, id: RecordId) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Err(error) = cache.put(id, id.to_string().into()).await {
        assert!(Instant::now() < deadline, "the put did not succeed within a minute: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Repeats a read until the cache answers, because the cluster is changing. Absence is an answer.
pub(crate) async fn read_until_answered(cache: &Cache, id: RecordId) -> Option<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match cache.payload(id).await {
            Ok(payload) => return payload.map(|payload| payload.to_vec()),
            Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
