//! Code that all functions of Custody share.
//!
//! A function's `main` reads its [`config`], builds the adapters that it needs from [`custody_aws`] and [`cache`], and passes a
//! stage of `custody-core` to [`runtime`]. No code in this crate depends on whether it runs on AWS or on the local
//! stack.

pub mod cache;
pub mod config;
pub mod deployment;
pub mod ingest_time_limits;
pub mod metrics;
pub mod runtime;
mod spans;
pub mod telemetry;
pub mod time_limit;

/// Starts the function with this name: initializes logging first, so that later errors are logged, and returns the
/// function's configuration.
///
/// # Errors
/// One error that lists every missing or invalid configuration key. Lambda reports it as the reason why the function
/// could not be initialized.
pub fn start<T>(
    function: &'static str,
    read: impl FnOnce(&mut config::Reader<'_>) -> T,
) -> Result<T, config::ConfigError> {
    let config = config::from_environment(|reader| (telemetry::Settings::read(reader), read(reader)));
    let level = config.as_ref().map_or(tracing::Level::INFO, |(settings, _)| settings.level);
    telemetry::init(level);
    let (settings, config) = config.inspect_err(|error| tracing::error!(%error, "could not start"))?;
    tracing::info!(release = settings.release, "starting");
    spans::set_source(settings.stack_name.clone(), function, settings.release);
    metrics::set_source(settings.stack_name, function);
    Ok(config)
}
