//! `halite export`: a consistent copy of a database as an ordinary SQLite file.

mod temporary;

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use clap::Args;
use halite_archive::{OutputPlace, OutputPlaceError};
use halite_client::{Client, ErrorKind, Exported, ReadLevel};
use serde_json::json;
use tempfile::TempPath;
use tokio::io::{AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};

use super::GlobalArgs;
use super::database::txid_text;
use super::error::{CliError, Outcome};
use super::held_file::refuse_held;
use super::output::{ProgressLine, human_bytes, print, print_json, remark};
use super::sql::parse_level;

/// Export a consistent copy of a database as an ordinary SQLite file.
///
/// Nothing appears under the output's name until the copy is whole and on disk. The copy is in rollback journal mode: it can be read where nothing
/// may be written. A file that it replaces gives it its owner and mode; a symbolic link is followed. What an export that was killed has left beside its
/// output (`.halite-export-*`) is removed by the next one.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The database
    #[arg(long, env = "HALITE_DB", value_name = "NAME")]
    db: String,
    /// Where the copy goes: a file, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output if it is there, and remove its -wal, -shm and -journal
    #[arg(long)]
    force: bool,
    /// How fresh the copy has to be: local, bounded:DURATION, session or linearizable; with session the primary gives it
    #[arg(long, value_name = "LEVEL", default_value = "session", value_parser = parse_level)]
    level: ReadLevel,
}

/// How often a copy is begun, each time with something that came.
const TRIES_MAX: u32 = 5;

/// The output that is standard output.
const STANDARD_OUTPUT: &str = "-";

pub(crate) async fn run(args: ExportArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    if args.output.as_os_str() == STANDARD_OUTPUT {
        return to_standard_output(&args, global).await;
    }
    let (path, force) = (args.output.clone(), args.force);
    let place = blocking(move || {
        let place = OutputPlace::look(&path, force).map_err(explained)?;
        refuse_held(place.path())?;
        Ok::<_, CliError>(place)
    })
    .await??;
    let client = global.connect().await?;
    let cannot_write =
        |error: io::Error| CliError::io(format!("cannot write {}", args.output.display()), &error);
    for left in temporary::remove_left(folder_of(place.path())) {
        remark(&format!(
            "removed what an export that was killed has left: {}",
            left.display()
        ));
    }
    let (file, temporary) = temporary::create(folder_of(place.path()))
        .map_err(cannot_write)?
        .into_parts();
    let sync = file.try_clone().map_err(cannot_write)?;
    let target = Counted::new(tokio::fs::File::from_std(file));
    let done = to_file(&client, &args, target).await?;
    blocking(move || publish(&sync, temporary, &place))
        .await?
        .map_err(cannot_write)?;
    if global.json {
        print_json(&told(&args, &done))?;
    } else {
        print(&words(&args, &done, &args.output.display().to_string()))?;
    }
    Ok(Outcome::Good)
}

/// A copy that breaks off, as when the node that gives it dies, is begun anew with whoever can give it.
async fn to_file(
    client: &Client,
    args: &ExportArgs,
    mut target: Counted<tokio::fs::File>,
) -> Result<Exported, CliError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let admin = client.admin();
        let done = admin.export(&args.db, args.level, &mut target).await;
        let why = match done {
            Err(why) if target.bytes > 0 && broke_off(&why) && tries < TRIES_MAX => why,
            done => return Ok(done?),
        };
        target.start_over().await.map_err(|error| {
            CliError::io(format!("cannot write {}", args.output.display()), &error)
        })?;
        remark(&format!("the export broke off and is begun anew: {why}"));
    }
}

/// Whether another try, with another node perhaps, may come to an end.
fn broke_off(why: &halite_client::Error) -> bool {
    matches!(
        why.kind(),
        ErrorKind::Unavailable { .. }
            | ErrorKind::NotPrimary { .. }
            | ErrorKind::Fenced
            | ErrorKind::Corrupt
    )
}

async fn to_standard_output(args: &ExportArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    if io::stdout().is_terminal() {
        return Err(
            CliError::new("a database is not for the eye: standard output is a terminal")
                .help("redirect it: `halite export --db NAME -o - > FILE`"),
        );
    }
    let client = global.connect().await?;
    let target = Counted::new(tokio::io::stdout());
    let done = client
        .admin()
        .export(&args.db, args.level, target)
        .await
        .map_err(|error| match closed(&error) {
            true => CliError::OutputClosed,
            false => CliError::from(error),
        })?;
    // What was done is told beside the copy.
    if global.json {
        remark(&told(args, &done).to_string());
    } else {
        remark(words(args, &done, "standard output").trim_end());
    }
    Ok(Outcome::Good)
}

/// Whoever reads our output has enough.
fn closed(error: &halite_client::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn told(args: &ExportArgs, done: &Exported) -> serde_json::Value {
    json!({
        "database": args.db,
        "output": args.output,
        "txid": txid_text(done.txid),
        "bytes": done.bytes,
    })
}

fn words(args: &ExportArgs, done: &Exported, output: &str) -> String {
    format!(
        "exported {} to {output} ({}, transaction {})\n",
        args.db,
        human_bytes(done.bytes),
        txid_text(done.txid)
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|stopped| CliError::new(format!("export stopped: {stopped}")))
}

/// An output that cannot be written, with what can be done about it.
fn explained(error: OutputPlaceError) -> CliError {
    let failed = CliError::new(error.to_string());
    match error {
        OutputPlaceError::Exists(_) => failed.help("--force replaces it"),
        other => with_way_on(failed, &other),
    }
}

/// What can be done about a place where no file may be written, whatever the command.
pub(super) fn with_way_on(failed: CliError, error: &OutputPlaceError) -> CliError {
    match error {
        OutputPlaceError::NoFolder(_) => {
            failed.help("is the path right? A folder has to be made first")
        }
        OutputPlaceError::NotAFile { .. } => failed.help("only regular files are replaced"),
        _ => failed,
    }
}

fn folder_of(output: &Path) -> &Path {
    output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// File to disk, name, folder to disk: whoever sees the name sees the whole copy, after a power loss too.
fn publish(file: &File, temporary: TempPath, place: &OutputPlace) -> io::Result<()> {
    place.dress(file)?;
    file.sync_all()?;
    if place.force() {
        place.remove_companions()?;
        temporary.persist(place.path())?;
    } else {
        temporary.persist_noclobber(place.path())?;
    }
    File::open(folder_of(place.path()))?.sync_all()
}

/// Counts what is written, and shows it.
struct Counted<W> {
    inner: W,
    bytes: u64,
    line: ProgressLine,
}

impl<W> Counted<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            bytes: 0,
            line: ProgressLine::new(),
        }
    }
}

impl Counted<tokio::fs::File> {
    /// Empty again. What was still being written is, before that.
    async fn start_over(&mut self) -> io::Result<()> {
        self.inner.flush().await?;
        self.inner.set_len(0).await?;
        self.inner.rewind().await?;
        self.bytes = 0;
        self.line = ProgressLine::new();
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
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
    use std::fs::Permissions;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn publishing_is_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("copy.db");
        let stage = |content: &str| {
            let mut file = temporary::create(folder.path()).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file.into_parts()
        };
        let place = |force| OutputPlace::look(&output, force);
        let new = place(false).unwrap();
        let (file, path) = stage("one");
        publish(&file, path, &new).unwrap();
        assert!(place(false).is_err());
        // It has appeared since somebody looked.
        let (file, path) = stage("two");
        let refused = publish(&file, path, &new).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "one");
        std::fs::write(folder.path().join("copy.db-journal"), "hot").unwrap();
        let mode = Permissions::from_mode(0o600);
        std::fs::set_permissions(&output, mode).unwrap();
        let (file, path) = stage("three");
        publish(&file, path, &place(true).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "three");
        let mode = std::fs::metadata(&output).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["copy.db"]);
    }
}
