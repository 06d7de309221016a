//! The payload cache on Redis.

mod bulk;
mod cache;
mod connection;
mod payload;

pub use self::{
    cache::{CacheSettings, RedisCache},
    connection::{PasswordSource, RedisConnection, SecretsManagerPassword, Tls},
};
