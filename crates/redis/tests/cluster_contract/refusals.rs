//! Tests of calls that must fail, and of their error messages.

use std::path::PathBuf;

use bytes::Bytes;
use custody_core::{error::ErrorName, ports::PayloadCache, testing::samples};
use custody_redis::{CacheSettings, Level, Tls};
use custody_redis_cluster::PASSWORD;
use redis::cmd;

use crate::fixture::{Fixture, put_error, settings};

#[tokio::test]
async fn a_wrong_password_is_a_clear_error_that_shows_no_password() {
    let fixture = Fixture::encrypted(1, 0);
    let cache = |password| {
        let ca_bundle = fixture.certificates.as_ref().unwrap().file("ca.pem");
        fixture.cache_of(Tls::Verified { ca_bundle }, password, settings(Level::Replicas(0)))
    };
    let text = put_error(&cache(Some("wrong-password")), samples::record_id()).await;
    assert!(text.contains("AUTH") && text.contains("WRONGPASS"), "{text}");
    let text = put_error(&cache(None), samples::record_id()).await;
    assert!(text.contains("NOAUTH"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_rejected() {
    let fixture = Fixture::encrypted(1, 0);
    let ca_bundle = fixture.certificates.as_ref().unwrap().file("foreign-ca.pem");
    let cache = fixture.cache_of(Tls::Verified { ca_bundle }, Some(PASSWORD), settings(Level::Replicas(0)));
    let text = put_error(&cache, samples::record_id()).await;
    assert!(text.to_lowercase().contains("certificate"), "{text}");
}

#[tokio::test]
async fn an_unusable_certificate_bundle_names_the_setting() {
    let fixture = Fixture::encrypted(1, 0);
    let file = |name| fixture.certificates.as_ref().unwrap().file(name);
    std::fs::write(file("broken.pem"), "-----BEGIN CERTIFICATE-----\nnothing\n").unwrap();
    std::fs::write(file("empty.pem"), "").unwrap();
    for ca_bundle in [PathBuf::from("no-such-file.pem"), file("broken.pem"), file("empty.pem")] {
        let tls = Tls::Verified { ca_bundle };
        let cache = fixture.cache_of(tls, Some(PASSWORD), settings(Level::Replicas(0)));
        let error = cache.payload(samples::record_id()).await.unwrap_err();
        assert_eq!(error.name, ErrorName::ConfigurationInvalid);
        assert!(error.to_string().contains("CACHE_CA_BUNDLE"), "{error}");
    }
}

#[tokio::test]
async fn a_full_server_refuses_and_forgets_nothing() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let configure = |limit: &str| {
        let mut command = cmd("CONFIG");
        fixture.cluster.node(0).run::<()>(command.arg("SET").arg("maxmemory").arg(limit)).unwrap();
    };
    let (kept, other) = (samples::record_id(), samples::record_id());
    cache.put(kept, Bytes::from_static(b"kept")).await.unwrap();
    configure("1");
    for _ in 0..3 {
        assert!(put_error(&cache, other).await.contains("OOM"));
    }
    configure("0");
    cache
        .put(other, Bytes::from_static(b"payload"))
        .await
        .expect("the server must accept payloads again when it has memory");
    assert_eq!(cache.payload(kept).await.unwrap().unwrap(), b"kept".as_slice());
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unavailable() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    drop(fixture);
    assert_eq!(cache.payload(id).await.unwrap_err().name, ErrorName::CacheUnavailable);
    put_error(&cache, id).await;
}

#[tokio::test]
async fn a_cache_that_is_closed_to_new_payloads_gives_what_it_has_and_drains() {
    let fixture = Fixture::plain(1, 0);
    let (open, id) = (fixture.cache(Level::Replicas(0)), samples::record_id());
    open.put(id, Bytes::from_static(b"payload")).await.unwrap();
    let closed =
        fixture.cache_with(CacheSettings { accepts_payloads: false, ..settings(Level::Replicas(0)) });
    let text = put_error(&closed, id).await;
    assert!(text.contains("closed to new payloads"), "{text}");
    assert!(closed.payload(id).await.unwrap().is_some());
    closed.unlink(id).await.unwrap();
    assert!(closed.payload(id).await.unwrap().is_none());
}
