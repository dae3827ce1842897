//! The log.
//!
//! Owns its form and where it goes: standard error. What is logged is chosen by the environment variable WEFT_LOG, such
//! as `debug` or `weft_controller=debug,info`. Must never see a secret: tokens and keys have no readable form.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging; once per process, later calls change nothing.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _logging_already = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
