//! The payload cache on Redis.

mod bulk;
mod cache;
mod connection;

pub use self::{
    cache::{CacheSettings, RedisCache},
    connection::{PasswordSource, RedisConnection, SecretsManagerPassword, Tls},
};
