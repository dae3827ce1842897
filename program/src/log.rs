//! The log of a program that runs for long.
//!
//! Owns its form and where it goes: standard error, where systemd and container runtimes read it. What is logged is
//! chosen by the environment variable WEFT_LOG, such as `debug` or `weft_agent=debug,info`; without it `info`. Must
//! never see a secret: tokens and keys have no readable form.

mod limit;
mod repeats;

use std::{
    env,
    io::{IsTerminal, stderr},
    str::FromStr,
};

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

pub use limit::RateLimit;

/// Names the filter in the environment.
const FILTER: &str = "WEFT_LOG";
/// What it is without. The client of Kubernetes reports a refused connection by itself, beside whoever asked.
const DEFAULT: &str = "info,kube_client::client::builder=off";

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is no form of a log: give text or json")),
        }
    }
}

/// Starts logging; once per process, later calls change nothing.
pub fn init(format: Format) {
    let wanted = env::var(FILTER).unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&wanted);
    let wrong = filter.as_ref().err().map(ToString::to_string);
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
        Format::Json => lines.json().boxed(),
    };
    let log = tracing_subscriber::registry().with(lines).with(RateLimit::default());
    let _logging_already = log.with(filter.unwrap_or_else(|_| EnvFilter::new(DEFAULT))).try_init();
    if let Some(wrong) = wrong {
        tracing::warn!(
            "{FILTER}={wanted:?} is no filter ({wrong}): give a level, or parts such as weft_agent=debug,info"
        );
    }
}
