//! What every function of Custody shares.
//!
//! A function's `main` reads its [`config`], builds the adapters it needs from [`aws`] and [`cache`], and hands a
//! stage of `custody-core` to [`lambda`]. Nothing here knows whether it runs on AWS or on the local stack.

pub mod bounded;
pub mod cache;
pub mod config;
pub mod deployment;
pub mod metrics;
pub mod runtime;
pub mod telemetry;

/// Begins a function: logging first, so that everything after it can be heard, then its configuration.
///
/// # Errors
/// Every missing or invalid key of the configuration at once. Lambda reports it as the reason why the function
/// could not be initialized.
pub fn start<T>(read: impl FnOnce(&mut config::Reader<'_>) -> T) -> Result<T, config::ConfigError> {
    let config = config::from_environment(|reader| (telemetry::Settings::read(reader), read(reader)));
    let level = config.as_ref().map_or(tracing::Level::INFO, |(settings, _)| settings.level);
    telemetry::init(level);
    config.map(|(_, config)| config).inspect_err(|error| tracing::error!(%error, "refused to start"))
}
