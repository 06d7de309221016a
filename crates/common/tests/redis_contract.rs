//! The Redis adapter on a real `redis-server`: with and without TLS, with and without a password, and where it
//! must refuse.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use custody_common::{
    config::Secret,
    redis::{CacheSettings, PasswordSource, RedisCache, RedisConnection, Tls},
};
use custody_core::{
    error::{ErrorName, StageError},
    ports::PayloadCache,
};
use custody_test_support::{
    certificates::Certificates,
    contract,
    redis_server::{PASSWORD, RedisServer},
    samples,
};

/// A server with the files that its clients need.
struct Server {
    redis: RedisServer,
    certificates: Certificates,
}

impl Server {
    fn plain() -> Self {
        Self { redis: RedisServer::plain().unwrap(), certificates: Certificates::create().unwrap() }
    }

    fn encrypted() -> Self {
        let certificates = Certificates::create().unwrap();
        Self { redis: RedisServer::encrypted(&certificates).unwrap(), certificates }
    }

    fn trusted(&self) -> Tls {
        Tls::Verified { ca_bundle: self.certificates.file("ca.pem") }
    }

    fn cache(&self, tls: Tls, password: Option<&str>, wanted_replicas: u32) -> RedisCache<Fixed> {
        let password = Fixed(password.map(str::to_owned));
        let settings = CacheSettings {
            replication_timeout: Duration::from_millis(200),
            ..CacheSettings::with_replicas(wanted_replicas)
        };
        let port = self.redis.port();
        RedisCache::new(RedisConnection::new("localhost".to_owned(), port, tls, password), settings)
    }

    fn direct(&self) -> redis::Connection {
        let client = redis::Client::open(("127.0.0.1".to_owned(), self.redis.port())).unwrap();
        client.get_connection().unwrap()
    }

    fn configure(&self, setting: &[&str]) {
        redis::cmd("CONFIG").arg("SET").arg(setting).exec(&mut self.direct()).unwrap();
    }
}

/// A password that is known without asking.
struct Fixed(Option<String>);

impl PasswordSource for Fixed {
    async fn password(&self) -> Result<Option<Secret>, StageError> {
        Ok(self.0.clone().map(Secret::new))
    }
}

async fn put_error(cache: &RedisCache<Fixed>) -> String {
    let message = samples::message(b"payload");
    let error = cache.put(&message, &b"payload".into(), None).await.unwrap_err();
    assert_eq!(error.name, ErrorName::CacheUnavailable, "{error}");
    let text = error.to_string();
    assert!(!text.contains(PASSWORD) && !text.contains("wrong-password"), "{text}");
    text
}

async fn every_contract(cache: &RedisCache<Fixed>) {
    contract::payload_cache(cache).await;
    contract::pending_entries(cache).await;
    contract::idempotency_claims(cache).await;
    contract::claims_of_cached_records(cache).await;
}

#[tokio::test]
async fn the_cache_keeps_the_contract_without_tls() {
    let server = Server::plain();
    let cache = server.cache(Tls::Off, None, 0);
    every_contract(&cache).await;
}

#[tokio::test]
async fn the_cache_keeps_the_contract_with_tls_and_password() {
    let server = Server::encrypted();
    let tls = server.trusted();
    every_contract(&server.cache(tls, Some(PASSWORD), 0)).await;
}

#[tokio::test]
async fn a_record_is_pending_with_its_message_until_it_is_settled_and_expires_only_then() {
    let server = Server::plain();
    let cache = server.cache(Tls::Off, None, 0);
    let message = samples::message(b"payload");
    let id = message.message_id;
    let (record, pending) = (cache.reference(id).key, format!("{{s{:02}}}:pending", id.shard()));
    let mut direct = server.direct();
    let mut limiting = server.direct();
    let mut ask = |command: &str, key: &str, member: Option<&str>| -> Option<i64> {
        let mut command = redis::cmd(command);
        command.arg(key);
        if let Some(member) = member {
            command.arg(member);
        }
        command.query(&mut direct).unwrap()
    };

    cache.put(&message, &b"payload".into(), None).await.unwrap();
    let id = id.to_string();
    assert_eq!(ask("ZSCORE", &pending, Some(&id)), Some(message.received_at.unix_ms()));
    assert_eq!(ask("TTL", &record, None), Some(-1), "what is pending does not expire");
    // A life that was limited, by an earlier release or by a hand, is made longer; one that was not is left alone.
    cache.extend(&[message.message_id]).await.unwrap();
    assert_eq!(ask("TTL", &record, None), Some(-1));
    redis::cmd("EXPIRE").arg(&record).arg(60).exec(&mut limiting).unwrap();
    cache.extend(&[message.message_id]).await.unwrap();
    let ttl = ask("TTL", &record, None).unwrap();
    assert!((86_000..=86_400).contains(&ttl), "{ttl} s");
    assert_eq!(
        ask("HSTRLEN", &record, Some("message")),
        Some(i64::try_from(message.to_json().len()).unwrap())
    );

    // A later run needs the payload: the end of the first one does not limit its life again.
    let second = samples::redriven(message.clone());
    cache.put(&second, &b"payload".into(), None).await.unwrap();
    cache.settle(message.run()).await.unwrap();
    assert_eq!(ask("ZSCORE", &pending, Some(&id)), None);
    assert_eq!(ask("ZSCORE", &pending, Some(&format!("{id}-2"))), Some(second.pending_since().unix_ms()));
    assert_eq!(ask("TTL", &record, None), Some(-1));
    cache.settle(second.run()).await.unwrap();
    assert_eq!(ask("ZSCORE", &pending, Some(&format!("{id}-2"))), None);
    let ttl = ask("TTL", &record, None).unwrap();
    assert!((1..=300).contains(&ttl), "{ttl} s");
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_for_the_one_that_took_its_place() {
    let server = Server::plain();
    let cache = server.cache(Tls::Off, None, 0);
    let message = samples::message(b"payload");
    cache.put(&message, &b"payload".into(), None).await.unwrap();
    let mut direct = server.direct();
    let mut replicate = |of: [&str; 2]| redis::cmd("REPLICAOF").arg(&of).exec(&mut direct).unwrap();

    replicate(["127.0.0.1", "1"]);
    put_error(&cache).await;
    // Nothing is not gone because a replica, which may not have copied it yet, does not have it.
    let unknown = cache.payload(samples::record_id()).await.unwrap_err();
    assert_eq!(unknown.name, ErrorName::CacheUnavailable);
    assert!(unknown.to_string().contains("replica"), "{unknown}");
    // The same address leads to a primary again, as a host name does after a failover.
    replicate(["NO", "ONE"]);
    cache.put(&message, &b"payload".into(), None).await.expect("the next call connects anew and succeeds");
}

#[tokio::test]
async fn a_record_counts_only_when_the_wanted_replicas_confirm_it() {
    let primary = Server::plain();
    let cache = primary.cache(Tls::Off, None, 1);
    assert!(put_error(&cache).await.contains("0 of 1 replicas"), "there is no replica yet");

    let port = primary.redis.port().to_string();
    let _replica = RedisServer::start(&["--port", "PORT", "--replicaof", "127.0.0.1", &port]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let message = samples::message(b"payload");
    while let Err(error) = cache.put(&message, &b"payload".into(), None).await {
        assert!(Instant::now() < deadline, "the replica never confirms: {error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_clear_error_that_shows_no_password() {
    let server = Server::encrypted();
    let tls = || server.trusted();
    let text = put_error(&server.cache(tls(), Some("wrong-password"), 0)).await;
    assert!(text.to_lowercase().contains("auth"), "{text}");
    // A read, because redis 1.8 panics in debug builds where a server refuses MULTI itself.
    let error = server.cache(tls(), None, 0).payload(samples::record_id()).await.unwrap_err();
    assert_eq!(error.name, ErrorName::CacheUnavailable);
    assert!(error.to_string().contains("NOAUTH"), "{error}");
}

#[tokio::test]
async fn a_server_that_a_foreign_authority_vouches_for_is_not_trusted() {
    let server = Server::encrypted();
    let tls = Tls::Verified { ca_bundle: server.certificates.file("foreign-ca.pem") };
    let text = put_error(&server.cache(tls, Some(PASSWORD), 0)).await;
    assert!(text.to_lowercase().contains("certificate"), "{text}");
}

#[tokio::test]
async fn an_unusable_certificate_bundle_names_the_setting() {
    let server = Server::encrypted();
    let broken = server.certificates.file("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nnothing\n").unwrap();
    let empty = server.certificates.file("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for ca_bundle in [PathBuf::from("no-such-file.pem"), broken, empty] {
        let cache = server.cache(Tls::Verified { ca_bundle }, Some(PASSWORD), 0);
        let error = cache.payload(samples::record_id()).await.unwrap_err();
        assert_eq!(error.name, ErrorName::ConfigurationInvalid);
        assert!(error.to_string().contains("REDIS_CA_BUNDLE"), "{error}");
    }
}

#[tokio::test]
async fn a_full_server_refuses_and_forgets_nothing() {
    let server = Server::plain();
    let cache = server.cache(Tls::Off, None, 0);
    let kept = samples::message(b"kept");
    cache.put(&kept, &b"kept".into(), None).await.unwrap();
    server.configure(&["maxmemory", "1"]);
    assert!(put_error(&cache).await.contains("OOM"));
    let connections = || {
        let stats: String = redis::cmd("INFO").arg("stats").query(&mut server.direct()).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().parse::<u32>().unwrap()
    };
    let before = connections();
    assert!(put_error(&cache).await.contains("OOM"));
    assert_eq!(connections(), before + 1, "a refusal costs no connection, but the one that counts them");
    server.configure(&["maxmemory", "0"]);
    let taken = samples::message(b"payload");
    cache.put(&taken, &b"payload".into(), None).await.expect("it takes records again when it has room");
    assert_eq!(cache.payload(kept.message_id).await.unwrap().unwrap().bytes, b"kept".as_slice());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_one_that_comes_back_is_found() {
    let server = Server::plain();
    let cache = server.cache(Tls::Off, None, 0);
    let message = samples::message(b"payload");
    cache.put(&message, &b"payload".into(), None).await.unwrap();
    // Every connection dies, as they do while a function sleeps.
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec(&mut server.direct()).unwrap();
    assert!(cache.payload(message.message_id).await.unwrap().is_some(), "the connection mends itself");

    drop(server);
    assert_eq!(cache.payload(message.message_id).await.unwrap_err().name, ErrorName::CacheUnavailable);
}
