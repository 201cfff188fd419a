//! `halite demo`: three real nodes, a database under load, and the death of the primary, with every claim checked.
//!
//! Owns the story and its folder. Runs the nodes through [`crate::local_cluster`] and speaks with them through `halite-client` like
//! any application; only the restore reads the archive itself. Never writes to the file it is given: the cluster gets a copy.
//! What it prints with a ✓ was looked at after the fact and could have been otherwise.

mod copies;
mod ledger;
mod nodes;
mod pages;
mod rows;
mod screen;
mod sightings;
mod source;
mod standing;
mod story;
mod summary;
mod workload;

use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::TempDir;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print, print_json};
use screen::Screen;
use source::Source;
use story::{Story, blocking};

/// Run three nodes on this machine, kill the primary under load, and check that nothing is lost.
///
/// Takes about a quarter of a minute. Exit code 0 only if every check held; if one did not, the folder with databases, archive and
/// logs is kept.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// SQLite file to work with: it is only read, the cluster gets a copy [default: one that is made up]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Where the demo makes its folder [default: the system's place for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the folder with databases, archive and logs
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: DemoArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    // Declared first, dropped last: when Ctrl-C ends the story, its processes are gone before their folder is.
    let mut folder = make_folder(&args)?;
    let mut screen = Screen::new(global.json);
    screen.title("Halite demo: three nodes on this machine, and one of them dies.")?;
    // A file that cannot be had is no promise that was broken.
    let source = source(&args, folder.path()).await?;
    let told = tell(source, folder.path(), &mut screen).await;
    let summary = match told {
        Ok(summary) => Some(summary),
        Err(CliError::Failed { message, .. }) => {
            screen.bad(&message)?;
            None
        }
        Err(other) => return Err(other),
    };
    let failed = screen.failed();
    let keep = args.keep || failed > 0;
    if keep {
        folder.disable_cleanup(true);
    }
    if global.json {
        print_json(&summary::json(
            &screen,
            summary.as_ref(),
            keep.then(|| folder.path()),
        ))?;
    } else {
        if let Some(summary) = &summary {
            print(&format!("\n{}", summary.text()))?;
        }
        print(&format!("\n{}", ending(failed, keep, folder.path())))?;
    }
    Ok(if failed == 0 {
        Outcome::Good
    } else {
        Outcome::Bad
    })
}

async fn source(args: &DemoArgs, folder: &Path) -> Result<Source, CliError> {
    let (given, folder) = (args.db.clone(), folder.to_owned());
    blocking(move || Source::prepare(given.as_deref(), &folder)).await?
}

async fn tell(
    source: Source,
    folder: &Path,
    screen: &mut Screen,
) -> Result<summary::Summary, CliError> {
    let mut story = Story::begin(source, folder, screen).await?;
    story.run_to_the_end(screen).await
}

fn make_folder(args: &DemoArgs) -> Result<TempDir, CliError> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    // The nodes are told absolute paths.
    let made = std::fs::create_dir_all(&parent)
        .and_then(|()| parent.canonicalize())
        .and_then(|parent| {
            tempfile::Builder::new()
                .prefix("halite-demo-")
                .disable_cleanup(args.keep)
                .tempdir_in(parent)
        });
    made.map_err(|error| {
        CliError::io(
            format!("cannot make a folder in {}", parent.display()),
            &error,
        )
    })
}

fn ending(failed: usize, keep: bool, folder: &Path) -> String {
    let verdict = match failed {
        0 => "Everything held.".to_owned(),
        1 => "FAILED: 1 check did not hold.".to_owned(),
        more => format!("FAILED: {more} checks did not hold."),
    };
    if keep {
        format!(
            "{verdict}\nKept: {folder} (logs: node-*/log.txt, databases: node-*/data/db, archive, copies)\n",
            folder = folder.display()
        )
    } else {
        format!("{verdict}\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn args(dir: &Path, keep: bool) -> DemoArgs {
        DemoArgs {
            db: None,
            dir: Some(dir.to_owned()),
            keep,
        }
    }

    #[test]
    fn the_folder_goes_unless_it_is_to_be_kept() {
        let parent = tempfile::tempdir().unwrap();
        let inside = parent.path().join("not/yet/there");
        let made = make_folder(&args(&inside, false)).unwrap();
        let path = made.path().to_owned();
        assert!(path.is_dir() && path.starts_with(inside.canonicalize().unwrap()));
        drop(made);
        assert!(!path.exists());
        let made = make_folder(&args(&inside, true)).unwrap();
        let path = made.path().to_owned();
        drop(made);
        assert!(path.is_dir());
    }

    #[test]
    fn the_flags_are_understood() {
        let line = "halite demo --db app.db --dir /tmp/x --keep --json";
        assert!(crate::cli::Cli::try_parse_from(line.split(' ')).is_ok());
        assert!(crate::cli::Cli::try_parse_from(["halite", "demo", "app.db"]).is_err());
    }

    #[test]
    fn the_ending_says_what_is_kept() {
        let folder = Path::new("/x/demo");
        assert_eq!(ending(0, false, folder), "Everything held.\n");
        assert!(ending(0, true, folder).contains("/x/demo"));
        assert!(ending(1, true, folder).starts_with("FAILED: 1 check did"));
        assert!(ending(2, true, folder).starts_with("FAILED: 2 checks did"));
    }
}
