//! [`Litestream`]: the program, as its users run it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use halite_archive::Target;
use tokio::process::Command;

use crate::support::Archive;

const VERSION: &str = "0.5.18";
const DEADLINE: Duration = Duration::from_secs(60);
/// What it says when there is nothing for the target, which is no fault of the archive.
const NOTHING: [&str; 2] = [
    "no matching backup files available",
    "timestamp does not exist",
];

pub(super) struct Litestream {
    path: PathBuf,
}

/// What a restore gave.
pub(super) enum Restored {
    Database(Vec<u8>),
    /// The archive has no state for the target.
    Nothing,
}

impl Litestream {
    /// The program that `HALITE_LITESTREAM` names, or the one that `.ci/setup test` provides, or the one in `PATH`.
    pub(super) async fn find() -> Self {
        let path = match env::var_os("HALITE_LITESTREAM").filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => candidates()
                .into_iter()
                .find(|path| path.is_file())
                .unwrap_or_else(|| {
                    panic!(
                        "litestream {VERSION} is missing: run `.ci/setup test`, or name it in HALITE_LITESTREAM"
                    )
                }),
        };
        let found = match run(&path, &["version"]).await {
            Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(error) => panic!("litestream does not run: {error} path={path:?}"),
        };
        assert_eq!(
            found.trim_start_matches('v'),
            VERSION,
            "another version of litestream path={path:?}"
        );
        Litestream { path }
    }

    /// Restores into a file of its own and gives its bytes.
    pub(super) async fn restore(
        &self,
        archive: &Archive,
        target: Target,
    ) -> Result<Restored, String> {
        let output = archive.dir.path().join("litestream.db");
        let url = format!("file://{}", archive.dir.path().join("replica").display());
        let (output_arg, txid, timestamp);
        output_arg = output.display().to_string();
        let mut args = vec!["restore", "-o", &output_arg];
        match target {
            Target::Latest => {}
            Target::Txid(wanted) => {
                txid = wanted.to_string();
                args.extend(["-txid", &txid]);
            }
            Target::Timestamp(wanted) => {
                timestamp = wanted.to_string();
                args.extend(["-timestamp", &timestamp]);
            }
        }
        args.push(&url);
        let done = run(&self.path, &args).await?;
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() {
            let bytes = fs::read(&output).map_err(|error| format!("{error}: {said}"))?;
            fs::remove_file(&output).map_err(|error| error.to_string())?;
            return Ok(Restored::Database(bytes));
        }
        if output.exists() {
            return Err(format!("litestream fails and leaves a database: {said}"));
        }
        match NOTHING.iter().any(|nothing| said.contains(nothing)) {
            true => Ok(Restored::Nothing),
            false => Err(format!("litestream fails: {} {said}", done.status)),
        }
    }
}

fn candidates() -> Vec<PathBuf> {
    let tools = env::var_os("HALITE_TOOLS").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/halite-tools"))
    });
    let cached = tools.map(|tools| tools.join(format!("litestream-{VERSION}/litestream")));
    let in_path = env::var_os("PATH").into_iter().flat_map(|path| {
        let dirs: Vec<PathBuf> = env::split_paths(&path).collect();
        dirs.into_iter().map(|dir| dir.join("litestream"))
    });
    cached.into_iter().chain(in_path).collect()
}

async fn run(path: &Path, args: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(path);
    // Nobody's settings.
    command.args(args).env_clear().kill_on_drop(true);
    match tokio::time::timeout(DEADLINE, command.output()).await {
        Ok(output) => output.map_err(|error| error.to_string()),
        Err(_) => Err(format!("litestream {args:?} does not end")),
    }
}
