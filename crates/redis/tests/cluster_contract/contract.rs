//! The contract suite of the payload cache on each kind of cluster, and tests of single properties.

use bytes::Bytes;
use custody_core::{
    ports::PayloadCache,
    receipt::Durability,
    testing::{contract::payload_cache, samples},
};
use custody_redis::{Level, Tls};
use custody_redis_cluster::{
    PASSWORD, RedisCluster, USERNAME,
    admin::{CACHE_USERS, CacheUser},
};

use crate::fixture::{Fixture, put_error, settings};

#[tokio::test]
async fn the_cache_keeps_the_contract_on_a_cluster_without_encryption() {
    let fixture = Fixture::plain(2, 1);
    let cache = fixture.cache(Level::Replicas(1));
    payload_cache(&cache).await;
    assert_eq!(cache.durability(), Durability::Replicated);
}

#[tokio::test]
async fn the_cache_keeps_the_contract_with_encryption_and_no_more_permissions_than_it_needs() {
    let fixture = Fixture::encrypted(2, 1);
    payload_cache(&fixture.cache(Level::Replicas(1))).await;

    let ca_file = std::fs::read(fixture.certificates.as_ref().unwrap().file("ca.pem")).unwrap();
    let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(ca_file) };
    let url = format!("rediss://{USERNAME}:{PASSWORD}@localhost:{}", fixture.cluster.node(0).port);
    let mut direct = redis::Client::build_with_tls(url, certificates).unwrap().get_connection().unwrap();
    for command in
        [&["FLUSHALL"][..], &["KEYS", "*"], &["GET", "other"], &["CLUSTER", "NODES"], &["CONFIG", "GET", "*"]]
    {
        let refusal = redis::cmd(command[0]).arg(&command[1..]).exec(&mut direct).unwrap_err();
        assert_eq!(refusal.code(), Some("NOPERM"), "{command:?}: {refusal}");
    }
}

#[tokio::test]
async fn at_the_level_sync_the_answer_of_the_primary_is_enough() {
    let fixture = Fixture::plain(1, 1);
    let cache = fixture.cache(Level::Sync);
    payload_cache(&cache).await;
    assert_eq!(cache.durability(), Durability::Durable);
    assert_eq!(fixture.cluster.node(0).calls("wait").unwrap(), 0);
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a skipped test must be visible in the output")]
#[expect(clippy::disallowed_methods, reason = "the environment names the server program to test with")]
async fn the_cache_keeps_the_contract_on_a_cluster_of_valkey() {
    let Ok(program) = std::env::var("CUSTODY_VALKEY_SERVER") else {
        eprintln!("SKIPPED: set CUSTODY_VALKEY_SERVER to a valkey-server to run the contract suite on it");
        return;
    };
    let cluster = RedisCluster::start_program(&program, 2, 1, None).unwrap();
    let fixture = Fixture { cluster, certificates: None };
    payload_cache(&fixture.cache(Level::Replicas(1))).await;
    payload_cache(&fixture.cache(Level::Sync)).await;
}

#[tokio::test]
async fn payloads_are_spread_over_the_shards() {
    let fixture = Fixture::plain(3, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let mut expected = [0_u64; 3];
    for _ in 0..60 {
        let id = samples::record_id();
        expected[fixture.shard_of(id)] += 1;
        cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    }
    let held: Vec<u64> =
        fixture.cluster.nodes().map(|node| node.run(&redis::cmd("DBSIZE")).unwrap()).collect();
    assert_eq!(held, expected);
    assert!(held.iter().all(|count| *count > 0), "{held:?}");
}

#[tokio::test]
async fn a_payload_expires_after_seven_days_unless_it_is_persisted() {
    let fixture = Fixture::plain(1, 0);
    let cache = fixture.cache(Level::Replicas(0));
    let id = samples::record_id();
    let ttl =
        || -> i64 { fixture.cluster.node(0).run(redis::cmd("TTL").arg(cache.reference(id).key)).unwrap() };
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    assert!((604_000..=604_800).contains(&ttl()), "{} s", ttl());
    assert!(cache.persist(id).await.unwrap());
    assert_eq!(ttl(), -1);
}

#[tokio::test]
async fn a_reference_names_the_cluster() {
    let fixture = Fixture::plain(2, 0);
    let seed = fixture.cluster.node(1);
    let cache = fixture.cache_from(seed, Tls::Off, None, settings(Level::Replicas(0)));
    let id = fixture.record_of(0);
    cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    let reference = cache.reference(id);
    assert_eq!((reference.server.as_str(), reference.port), ("localhost", seed.port));
}

#[test]
fn the_template_gives_each_user_the_permissions_that_are_tested_here() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml");
    let template = std::fs::read_to_string(template).unwrap();
    for CacheUser { name, access } in CACHE_USERS {
        let user = format!("UserName: {name}\n      AccessString: {access}\n");
        assert!(template.contains(&user), "template.yaml does not have\n      {user}");
    }
    assert_eq!(template.matches("AccessString:").count(), CACHE_USERS.len());
}

#[tokio::test]
async fn each_user_may_do_what_its_function_does_and_nothing_else() {
    let fixture = Fixture::encrypted(1, 1);
    let everybody = fixture.cache(Level::Replicas(1));
    let may: [(&str, &[&str]); 5] = [
        ("ingest", &["put", "persist", "unlink"]),
        ("archive", &["payload"]),
        ("aggregate", &["unlink"]),
        ("failure", &["payload", "size", "unlink"]),
        ("reconcile", &["size", "persist", "unlink"]),
    ];
    for (user, expected) in may {
        let (cache, _) = fixture.cache_as(user, settings(Level::Replicas(1)));
        let id = fixture.record_of(0);
        everybody.put(id, Bytes::from_static(b"payload")).await.unwrap();
        let results = [
            ("put", cache.put(fixture.record_of(0), Bytes::from_static(b"payload")).await.map(drop)),
            ("payload", cache.payload(id).await.map(drop)),
            ("size", cache.size(id).await.map(drop)),
            ("persist", cache.persist(id).await.map(drop)),
            ("unlink", cache.unlink(id).await),
        ];
        let allowed: Vec<_> =
            results.iter().filter_map(|(name, result)| result.is_ok().then_some(*name)).collect();
        assert_eq!(allowed, expected, "{user}: {results:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_rotated_under_load_and_no_put_is_refused() {
    let fixture = Fixture::encrypted(2, 0);
    let (cache, login) = fixture.cache_as("ingest", settings(Level::Replicas(0)));
    let on_all_nodes = |command: &redis::Cmd| {
        for node in fixture.cluster.nodes() {
            node.run::<redis::Value>(command).unwrap();
        }
    };
    let set_user = |rule: &str| on_all_nodes(redis::cmd("ACL").arg("SETUSER").arg("ingest").arg(rule));
    // A function opens new connections as load grows; here, all connections are new after each step.
    let close_connections = || {
        on_all_nodes(redis::cmd("CLIENT").arg("KILL").arg("USER").arg("ingest"));
    };
    let forget_the_old_password = || set_user(&format!("<{PASSWORD}"));
    let steps: [&dyn Fn(); 3] = [
        &|| set_user(">the-new-password"),
        &|| login.change(("ingest", "the-new-password")),
        &forget_the_old_password,
    ];
    for step in steps {
        step();
        for _ in 0..20 {
            close_connections();
            let (first, second) = (fixture.record_of(0), fixture.record_of(1));
            let payload = || Bytes::from_static(b"payload");
            let (first, second) = tokio::join!(cache.put(first, payload()), cache.put(second, payload()));
            first.unwrap();
            second.unwrap();
        }
    }
    let (late, _) = fixture.cache_as("ingest", settings(Level::Replicas(0)));
    put_error(&late, fixture.record_of(0)).await;
}
