//! `halite version`.

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print_json, print_line};

pub(crate) fn run(global: &GlobalArgs) -> Result<Outcome, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let sqlite = rusqlite::version();
    let levels = global.levels;
    if global.json {
        let all = serde_json::json!({
            "version": version,
            "level_min": levels.min.get(),
            "level_max": levels.max.get(),
            "sqlite": sqlite,
            "platform": platform,
            "build": build,
        });
        return print_json(&all).map(|()| Outcome::Good);
    }
    print_line(&format!("halite {version}"))?;
    print_line(&format!("levels {levels}"))?;
    if global.verbose > 0 {
        print_line(&format!("sqlite {sqlite}"))?;
        print_line(&format!("platform {platform}"))?;
        print_line(&format!("build {build}"))?;
    }
    Ok(Outcome::Good)
}
