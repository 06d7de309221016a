//! Redis as ElastiCache runs it: a primary with a replica, TLS only, a password, and no eviction. Unlike there, the primary
//! keeps a log on disk, so that tests can kill it and have it back, as if it had been unreachable for a while.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use anyhow::Context as _;

use super::{Running, process, write_private};

/// Starts both servers.
pub(super) fn start(running: &Running, redis_server: &Path) -> anyhow::Result<()> {
    let ports = running.ports;
    start_one(running, redis_server, "redis-primary", ports.redis_primary, None)?;
    process::wait_for_port(ports.redis_primary, "the Redis primary", Duration::from_secs(10))?;
    start_one(running, redis_server, "redis-replica", ports.redis_replica, Some(ports.redis_primary))?;
    process::wait_for_port(ports.redis_replica, "the Redis replica", Duration::from_secs(10))
}

/// Starts the primary again after a crash, from its log.
pub(super) fn start_primary(running: &Running, redis_server: &Path) -> anyhow::Result<()> {
    start_one(running, redis_server, "redis-primary", running.ports.redis_primary, None)?;
    process::wait_for_port(running.ports.redis_primary, "the Redis primary", Duration::from_secs(10))
}

/// Starts an empty server in the primary's place, which copies what the replica has. After a failover in AWS the primary's
/// name leads to the former replica; here the name is a port, so the replica's data goes to the port.
pub(super) fn start_primary_from_replica(running: &Running, redis_server: &Path) -> anyhow::Result<()> {
    drop(fs::remove_dir_all(running.folder.join("redis-primary")));
    let ports = running.ports;
    start_one(running, redis_server, "redis-primary", ports.redis_primary, Some(ports.redis_replica))?;
    process::wait_for_port(ports.redis_primary, "the new Redis primary", Duration::from_secs(10))?;
    let log = running.folder.join("logs/redis-primary.log");
    process::wait_until("replication", Duration::from_secs(20), || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("Finished with success"))
    })
}

/// Waits until the replica has what the primary has: before that, no record is confirmed.
pub(super) fn wait_for_replica(running: &Running) -> anyhow::Result<()> {
    let log = running.folder.join("logs/redis-replica.log");
    process::wait_until("replication", Duration::from_secs(20), || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("Finished with success"))
    })
}

fn start_one(
    running: &Running,
    redis_server: &Path,
    name: &str,
    port: u16,
    primary: Option<u16>,
) -> anyhow::Result<()> {
    let folder = running.folder.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let tls = running.folder.join("tls");
    let log = if primary.is_none() { "yes" } else { "no" };
    let (tls, data, password) = (tls.display(), folder.display(), &running.redis_password);
    let mut config = format!(
        "bind 127.0.0.1\nport 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\n\
         tls-cert-file \"{tls}/cert.pem\"\ntls-key-file \"{tls}/key.pem\"\ntls-ca-cert-file \"{tls}/ca.pem\"\n\
         requirepass {password}\nmasterauth {password}\n\
         maxmemory 2gb\nmaxmemory-policy noeviction\nsave \"\"\nappendonly {log}\ndir \"{data}\"\n\
         repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n"
    );
    if let Some(primary) = primary {
        writeln!(config, "replicaof 127.0.0.1 {primary}")?;
    }
    let file = folder.join("redis.conf");
    write_private(&file, &config)?;
    process::start(&running.folder, name, Command::new(redis_server).env_clear().arg(file))
}
