//! Conditions with a deadline.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Looks at a condition until it gives a value. What it says instead of one is in the error when time is up.
///
/// # Errors
/// The deadline has passed.
pub async fn until<T, W: Debug>(
    what: &str,
    timeout: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, W>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        let why = match condition().await {
            Ok(value) => return Ok(value),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            bail!("not within {timeout:?}: {what}: last seen {why:?}");
        }
        tokio::time::sleep(STEP).await;
    }
}
