//! Logging: one subscriber per process, to standard error.
//!
//! Called once, by the command line. The variable `RUST_LOG`, if set, says alone what is logged.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// What logging needs could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// `RUST_LOG` is not understood.
    #[error("RUST_LOG is not understood: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging was already set up: {0}")]
    Init(#[from] TryInitError),
}

/// Crates below ours that log their every step as information: they speak one level below what was asked for.
const CHATTY: [&str; 8] = [
    "openraft",
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "rustyline",
    "mio",
];

/// What says so many times a second that a member does not answer, or is none any more. Halite says it once, in its own words.
const REPEATING: [&str; 5] = [
    "openraft::core::raft_core",
    "openraft::core::heartbeat",
    "openraft::replication",
    "openraft::proposer::candidate",
    "openraft::engine::handler::replication_handler",
];

/// Starts logging as `log` says, standard output left alone.
///
/// # Errors
/// A `RUST_LOG` that is not understood, or a second call in one process.
pub fn init(log: &LogConfig) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = filter(log.level, std::env::var("RUST_LOG").ok().as_deref())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(is_terminal()).finish().try_init()?,
        LogFormat::Pretty => builder
            .with_ansi(is_terminal())
            .pretty()
            .finish()
            .try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What is logged: `rust_log` if there is one, else `level` for ours and a quieter one for what is chatty.
fn filter(level: LogLevel, rust_log: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    if let Some(given) = rust_log.filter(|given| !given.trim().is_empty()) {
        return Ok(EnvFilter::try_new(given)?);
    }
    let quieter = match level {
        LogLevel::Error => LogLevel::Error,
        LogLevel::Warn | LogLevel::Info => LogLevel::Warn,
        LogLevel::Debug => LogLevel::Info,
        LogLevel::Trace => LogLevel::Debug,
    };
    let chatty = CHATTY.iter().map(|target| format!(",{target}={quieter}"));
    let repeating = match level {
        LogLevel::Debug | LogLevel::Trace => quieter,
        _ => LogLevel::Error,
    };
    let repeating = REPEATING
        .iter()
        .map(|target| format!(",{target}={repeating}"));
    Ok(EnvFilter::try_new(format!(
        "{level}{}",
        chatty.chain(repeating).collect::<String>()
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatty_crates_are_one_level_quieter() {
        let shown = filter(LogLevel::Info, None).unwrap().to_string();
        let has = |directive: &str| shown.split(',').any(|part| part == directive);
        assert!(
            has("info") && has("openraft=warn") && has("h2=warn"),
            "{shown}"
        );
        assert!(has("openraft::core::heartbeat=error"), "{shown}");
        let shown = filter(LogLevel::Trace, None).unwrap().to_string();
        assert!(shown.contains("openraft::replication=debug"), "{shown}");
    }

    #[test]
    fn rust_log_goes_before_the_level() {
        assert_eq!(
            filter(LogLevel::Error, Some("halite=trace"))
                .unwrap()
                .to_string(),
            "halite=trace"
        );
        assert_eq!(
            filter(LogLevel::Error, Some(" ")).unwrap().to_string(),
            filter(LogLevel::Error, None).unwrap().to_string()
        );
        assert!(matches!(
            filter(LogLevel::Info, Some("a=b=c")),
            Err(TelemetryError::Filter(_))
        ));
    }
}
