//! `halite export`: a consistent copy of a database as an ordinary SQLite file.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use clap::Args;
use halite_client::ReadLevel;
use serde_json::json;
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWrite;

use super::GlobalArgs;
use super::database::txid_text;
use super::error::{CliError, Outcome};
use super::output::{ProgressLine, human_bytes, print, print_json};
use super::sql::parse_level;

/// Export a consistent copy of a database as an ordinary SQLite file.
///
/// Nothing appears under the output's name until the copy is whole and on disk.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The database
    #[arg(long, env = "HALITE_DB", value_name = "NAME")]
    db: String,
    /// Where the copy goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output if it is there, and remove its -wal, -shm and -journal
    #[arg(long)]
    force: bool,
    /// How fresh the copy has to be: local, bounded:DURATION, session or linearizable
    #[arg(long, value_name = "LEVEL", default_value = "session", value_parser = parse_level)]
    level: ReadLevel,
}

/// Files that SQLite keeps beside a database. With another database's content they would corrupt the copy.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(crate) async fn run(args: ExportArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    check_target(&args.output, args.force)?;
    let client = global.connect().await?;
    let cannot_create =
        |error: io::Error| CliError::io(format!("cannot write {}", args.output.display()), &error);
    let (file, path) = temporary_beside(&args.output)
        .map_err(cannot_create)?
        .into_parts();
    let sync = file.try_clone().map_err(cannot_create)?;
    let target = Counted {
        inner: tokio::fs::File::from_std(file),
        bytes: 0,
        line: ProgressLine::new(),
    };
    let done = client.admin().export(&args.db, args.level, target).await?;
    let (output, force) = (args.output.clone(), args.force);
    let published = tokio::task::spawn_blocking(move || publish(&sync, path, &output, force)).await;
    published
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(cannot_create)?;
    if global.json {
        print_json(&json!({
            "database": args.db,
            "output": args.output,
            "txid": txid_text(done.txid),
            "bytes": done.bytes,
        }))?;
    } else {
        let size = human_bytes(done.bytes);
        print(&format!(
            "exported {} to {} ({size}, transaction {})\n",
            args.db,
            args.output.display(),
            txid_text(done.txid)
        ))?;
    }
    Ok(Outcome::Good)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn check_target(output: &Path, force: bool) -> Result<(), CliError> {
    if output.is_dir() {
        return Err(CliError::new(format!("{} is a folder", output.display())));
    }
    let there = BESIDE
        .iter()
        .map(|ending| beside(output, ending))
        .chain([output.to_owned()])
        .find(|path| path.exists());
    match there {
        Some(path) if !force => Err(
            CliError::new(format!("{} is there already", path.display()))
                .help("--force replaces it"),
        ),
        _ => Ok(()),
    }
}

/// A temporary file in the folder of `output`, so that a rename can give it the name. It is removed when dropped.
fn temporary_beside(output: &Path) -> io::Result<NamedTempFile> {
    let folder = folder_of(output);
    tempfile::Builder::new()
        .prefix(".halite-export-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

fn folder_of(output: &Path) -> &Path {
    output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// File to disk, name, folder to disk: whoever sees the name sees the whole copy, after a power loss too.
fn publish(file: &File, temporary: TempPath, output: &Path, force: bool) -> io::Result<()> {
    file.sync_all()?;
    if force {
        for ending in BESIDE {
            match std::fs::remove_file(beside(output, ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        temporary.persist(output)?;
    } else {
        temporary.persist_noclobber(output)?;
    }
    File::open(folder_of(output))?.sync_all()
}

/// Counts what is written, and shows it.
struct Counted {
    inner: tokio::fs::File,
    bytes: u64,
    line: ProgressLine,
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, buffer);
        if let Poll::Ready(Ok(count)) = polled {
            self.bytes += count as u64;
            let bytes = human_bytes(self.bytes);
            self.line.show(&format!("exporting: {bytes}"));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_there_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("copy.db");
        assert!(check_target(&output, false).is_ok());
        std::fs::write(beside(&output, "-wal"), "old").unwrap();
        assert!(
            check_target(&output, false)
                .unwrap_err()
                .to_string()
                .ends_with("copy.db-wal is there already")
        );
        std::fs::write(&output, "old").unwrap();
        assert!(check_target(&output, false).is_err());
        assert!(check_target(&output, true).is_ok());
        assert!(check_target(folder.path(), true).is_err());
    }

    #[test]
    fn publishing_is_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("copy.db");
        let stage = |content: &str| {
            let mut file = temporary_beside(&output).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file.into_parts()
        };
        let (file, path) = stage("one");
        publish(&file, path, &output, false).unwrap();
        let (file, path) = stage("two");
        let refused = publish(&file, path, &output, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "one");
        std::fs::write(beside(&output, "-journal"), "hot").unwrap();
        let (file, path) = stage("three");
        publish(&file, path, &output, true).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "three");
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["copy.db"]);
    }
}
