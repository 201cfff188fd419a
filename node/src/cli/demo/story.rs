//! [`Story`]: what happens in the demo, in order, and what is checked.
//!
//! A step that cannot be done ends the story with an error. A check that does not hold is shown, and the story goes on: the others
//! may tell why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use halite_client::NodeStatus;
use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use super::copies::{self, Archive};
use super::ledger::{Fate, Verdict, WriteId};
use super::nodes::{Nodes, archive_of};
use super::pages;
use super::rows::Tables;
use super::screen::Screen;
use super::source::Source;
use super::standing::{self, Standing};
use super::summary::Summary;
use super::workload::{Diary, LOCAL_READERS, SESSION_READERS, WRITERS, Workload};
use crate::cli::error::CliError;
use crate::cli::output::human_bytes;

/// Name of the database in the cluster.
const DATABASE: &str = "demo";
/// Load on three nodes before the kill: long enough for the archive to be written to twice.
const BEFORE_KILL: Duration = Duration::from_millis(2500);
/// Load on the two that are left.
const WITHOUT_NODE: Duration = Duration::from_millis(1500);
/// Load on all three after the killed one is back.
const AFTER_RETURN: Duration = Duration::from_millis(1500);

/// See the module.
#[derive(Debug)]
pub(super) struct Story {
    folder: PathBuf,
    source: Source,
    tables: Tables,
    nodes: Nodes,
    archive_url: String,
}

/// How the killed node's place was taken.
struct Failover {
    victim: u64,
    takeover: Duration,
}

/// The exported copies; the first is the one that is looked into.
struct Copies {
    standing: Standing,
    page_size: u32,
    paths: Vec<PathBuf>,
}

/// Runs what blocks on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| CliError::new(format!("a part of the demo failed: {error}")))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Story {
    /// Prepares the database and starts the nodes.
    pub(super) async fn begin(
        source: Source,
        folder: &Path,
        screen: &mut Screen,
    ) -> Result<Self, CliError> {
        let size = human_bytes(source.size_bytes);
        screen.good(&format!("{} ({size})", source.title))?;
        let archive = folder.join("archive");
        let began = Instant::now();
        let mut nodes = Nodes::start(folder, &format!("file://{}", archive.display())).await?;
        let (primary, term) = nodes.primary(None).await?;
        let addrs: Vec<&str> = nodes.all().iter().map(|node| node.addr.as_str()).collect();
        screen.good(&format!(
            "started {} nodes ({}): node {primary} became primary in term {term} after {} ms",
            nodes.count(),
            addrs.join(", "),
            ms(began.elapsed())
        ))?;
        Ok(Self {
            tables: Tables::beside(&source.names),
            folder: folder.to_owned(),
            source,
            nodes,
            archive_url: archive_of(&archive, DATABASE),
        })
    }

    pub(super) async fn run_to_the_end(
        &mut self,
        screen: &mut Screen,
    ) -> Result<Summary, CliError> {
        let page_size = self.import(screen).await?;
        let mut work = self.start_work(screen).await?;
        sleep(BEFORE_KILL).await;
        let failover = self.fail_over(&mut work, screen).await?;
        sleep(WITHOUT_NODE).await;
        let catch_up = self.bring_back(failover.victim, screen).await?;
        sleep(AFTER_RETURN).await;
        let diary = work.finish().await;
        screen.note(&format!(
            "stopped the load: {} writes acknowledged, {} reads",
            diary.ledger.count(Fate::Acknowledged),
            diary.reads
        ))?;
        let copies = self.compare_copies(page_size, screen).await?;
        let verdict = self.judge(&diary, &copies, screen).await?;
        let (restore_took, archive) = self.restore(&copies, screen).await?;
        Ok(Summary {
            writes_acknowledged: verdict.acknowledged,
            writes_unknown: verdict.unknown,
            writes_refused: verdict.refused,
            rows: verdict.rows,
            reads: diary.reads,
            rows_seen: diary.sightings.iter().map(|seen| seen.len()).sum(),
            reads_failed: diary
                .errors
                .iter()
                .filter(|e| e.starts_with("read"))
                .count(),
            takeover_ms: ms(failover.takeover),
            slowest_write_ms: ms(diary.slowest_write),
            catch_up_ms: ms(catch_up),
            transactions: copies.standing.txid,
            pages: copies.standing.pages.into(),
            page_size,
            archive_files: archive.files,
            archive_bytes: archive.bytes,
            restore_ms: ms(restore_took),
        })
    }

    /// The page size of the database.
    async fn import(&mut self, screen: &mut Screen) -> Result<u32, CliError> {
        let path = &self.source.path;
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|error| CliError::io(path.display(), &error))?;
        let admin = self.nodes.admin();
        let done = admin
            .import(DATABASE, self.source.size_bytes, false, file)
            .await?;
        let count = self.nodes.count();
        let standing = self.in_step("the imported database on all nodes").await?;
        let text = format!(
            "imported it as `{DATABASE}`: {} pages of {} bytes on all {count} nodes",
            standing.pages, done.page_size
        );
        screen.check(if standing.pages == done.page_count {
            Ok(text)
        } else {
            Err(format!("{text}, but the import said {}", done.page_count))
        })?;
        Ok(done.page_size)
    }

    /// Waits until all nodes have the same.
    async fn in_step(&mut self, what: &str) -> Result<Standing, CliError> {
        let count = self.nodes.count();
        let ready = |nodes: &[NodeStatus]| standing::in_step(nodes, DATABASE, count);
        self.nodes.wait_until(what, ready).await
    }

    async fn start_work(&mut self, screen: &mut Screen) -> Result<Workload, CliError> {
        let create = self.tables.create(&Workload::writers());
        let database = self.nodes.client().database(DATABASE);
        database.batch(create).await?;
        // A node that is a moment behind would rightly tell a reader without a past that there is no such table.
        self.in_step("the demo's tables on all nodes").await?;
        let work = Workload::start(self.nodes.client(), DATABASE, self.tables.clone());
        screen.note(&format!(
            "{WRITERS} writers insert into `{}`; {SESSION_READERS} readers at session level and {LOCAL_READERS} at local level watch",
            self.tables.writes()
        ))?;
        Ok(work)
    }

    async fn fail_over(
        &mut self,
        work: &mut Workload,
        screen: &mut Screen,
    ) -> Result<Failover, CliError> {
        let (victim, old_term) = self.nodes.primary(None).await?;
        let (before, in_flight) = (work.acknowledged(), work.in_flight());
        let killed = Instant::now();
        self.nodes.kill(victim)?;
        screen.note(&format!(
            "killed node {victim}, the primary (SIGKILL), after {before} acknowledged writes, with {in_flight} in flight"
        ))?;
        // Its process is gone: nothing that begins now can be answered by it.
        let probed = work.probe(self.nodes.client(), DATABASE).await;
        // A second node that died by itself explains a missing answer better than the answer that is missing.
        self.nodes.check_running()?;
        let takeover = probed.map_err(CliError::new)? - killed;
        let (primary, term) = self.nodes.primary(Some(victim)).await?;
        let text = format!(
            "node {primary} took over in term {term}: the next write was acknowledged {} ms after the kill",
            ms(takeover)
        );
        screen.check(if term > old_term && before > 0 {
            Ok(text)
        } else {
            Err(format!(
                "{text}; term before: {old_term}, writes acknowledged before: {before}"
            ))
        })?;
        Ok(Failover { victim, takeover })
    }

    /// Restarts the killed node; how long it took to have what the primary had when it was back.
    async fn bring_back(&mut self, victim: u64, screen: &mut Screen) -> Result<Duration, CliError> {
        let began = Instant::now();
        self.nodes.restart(victim)?;
        let mut target = None;
        let (missed, reached) = self
            .nodes
            .wait_until(&format!("node {victim} back in step"), |nodes| {
                let primary = standing::primary(nodes)
                    .ok_or("there is no primary")?
                    .node_id;
                let own = standing::txid_of(nodes, victim, DATABASE)?;
                let (first, target) = match target {
                    Some(known) => known,
                    None => *target.insert((own, standing::txid_of(nodes, primary, DATABASE)?)),
                };
                if own >= target {
                    Ok((target - first.min(target), own))
                } else {
                    Err(format!("it is at transaction {own} of {target}"))
                }
            })
            .await?;
        let took = began.elapsed();
        screen.good(&format!(
            "restarted node {victim}: it caught up under load, to transaction {reached}, within {} ms ({missed} behind when it first answered)",
            ms(took)
        ))?;
        Ok(took)
    }

    /// All copies are the same, by what the nodes say and byte by byte.
    async fn compare_copies(
        &mut self,
        page_size: u32,
        screen: &mut Screen,
    ) -> Result<Copies, CliError> {
        let count = self.nodes.count();
        let standing = self.in_step("all nodes at the same position").await?;
        screen.good(&format!(
            "all {count} nodes are at transaction {} with checksum {}",
            standing.txid, standing.checksum
        ))?;
        let mut paths = Vec::new();
        for node in self.nodes.all() {
            let path = self.folder.join(format!("copy-of-node-{}.db", node.id));
            let exported = copies::export(&node.addr, DATABASE, &path).await?;
            if exported.txid != standing.txid {
                screen.bad(&format!(
                    "node {} exported transaction {} instead of {}",
                    node.id, exported.txid, standing.txid
                ))?;
            }
            paths.push(path);
        }
        let others = paths.clone();
        let compared = blocking(move || all_alike(&others, page_size)).await?;
        screen.check(compared.map(|pages| {
            format!("the files of all {count} nodes are the same, page by page ({pages} pages)")
        }))?;
        Ok(Copies {
            standing,
            page_size,
            paths,
        })
    }

    /// What was promised to writers and readers, held against what is there.
    async fn judge(
        &mut self,
        diary: &Diary,
        copies: &Copies,
        screen: &mut Screen,
    ) -> Result<Verdict, CliError> {
        let (tables, path) = (self.tables.clone(), copies.paths[0].clone());
        let found =
            blocking(move || Connection::open(path).and_then(|copy| tables.read_back(&copy)));
        let found = found
            .await?
            .map_err(|error| CliError::new(format!("the exported copy cannot be read: {error}")))?;
        let verdict = diary.ledger.judge(found.rows.values().copied());
        screen.check(verdict.outcome())?;
        screen.check(found.is_whole())?;
        screen.check(readers_outcome(diary, &found.rows))?;
        if let Some(first) = diary.errors.first() {
            let count = diary.errors.len();
            screen.note(&format!(
                "{count} calls failed with an error, the first: {first}"
            ))?;
        }
        let (original, copy) = (self.source.path.clone(), copies.paths[0].clone());
        screen.check(blocking(move || copies::same_rows(&original, &copy)).await?)?;
        let paths = copies.paths.clone();
        screen.check(blocking(move || all_sound(&paths)).await?)?;
        Ok(verdict)
    }

    /// The archive alone gives the same database back.
    async fn restore(
        &mut self,
        copies: &Copies,
        screen: &mut Screen,
    ) -> Result<(Duration, Archive), CliError> {
        let txid = copies.standing.txid;
        self.nodes
            .wait_until("the archive up to date", |nodes| {
                standing::archived(nodes, DATABASE, txid)
            })
            .await?;
        let path = self.folder.join("restored.db");
        let (report, archive) = copies::restore_newest(&self.archive_url, &path).await?;
        let (copy, page_size) = (copies.paths[0].clone(), copies.page_size);
        let same = blocking(move || {
            let pages = all_alike(&[copy, path.clone()], page_size)?;
            copies::integrity(&path)?;
            Ok::<_, String>(pages)
        });
        let text = format!(
            "restored transaction {} from {} archive files in {} ms",
            report.txid.get(),
            report.files,
            ms(report.duration)
        );
        let outcome = match same.await? {
            Ok(pages) if report.txid.get() == txid => Ok(format!(
                "{text}: the same as the nodes' files, page by page ({pages} pages), integrity_check ok"
            )),
            Ok(_) => Err(format!("{text}, but the nodes are at {txid}")),
            Err(why) => Err(format!("{text}, but: {why}")),
        };
        screen.check(outcome)?;
        Ok((report.duration, archive))
    }
}

/// Every file against the first; the number of pages. Blocks.
fn all_alike(paths: &[PathBuf], page_size: u32) -> Result<u64, String> {
    let [first, others @ ..] = paths else {
        return Err("there is no copy".to_owned());
    };
    let mut pages = Err("there is only one copy".to_owned());
    for other in others {
        let compared = pages::compare(first, other, page_size as usize)
            .map_err(|error| format!("cannot compare {}: {error}", other.display()))?;
        let named = |why| format!("{} and {}: {why}", file_name(first), file_name(other));
        pages = Ok(compared.outcome().map_err(named)?);
    }
    pages
}

fn all_sound(paths: &[PathBuf]) -> Result<String, String> {
    for path in paths {
        copies::integrity(path).map_err(|why| format!("{}: {why}", file_name(path)))?;
    }
    Ok(format!(
        "integrity_check finds nothing in the {} copies",
        paths.len()
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Nothing that anyone saw vanished: neither while they looked, nor in the end.
fn readers_outcome(diary: &Diary, rows: &BTreeMap<i64, WriteId>) -> Result<String, String> {
    let mut faults = diary.faults.clone();
    faults.extend(
        diary
            .sightings
            .iter()
            .filter_map(|seen| seen.compare(rows).err()),
    );
    let seen: usize = diary.sightings.iter().map(|seen| seen.len()).sum();
    if let Some(first) = faults.first() {
        let count = faults.len();
        return Err(format!(
            "readers were promised more than they got, {count} times; first: {first}"
        ));
    }
    if diary.sightings.iter().any(|seen| seen.len() == 0) {
        return Err("a reader saw no row at all".to_owned());
    }
    Ok(format!(
        "nothing that was ever seen vanished ({} reads, {seen} rows seen), and writers read what they wrote",
        diary.reads
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::sightings::Sightings;

    #[test]
    fn copies_are_compared_with_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (1..=3)
            .map(|n| folder.path().join(format!("{n}.db")))
            .collect();
        for path in &paths {
            std::fs::write(path, [7_u8; 1024]).unwrap();
        }
        assert_eq!(all_alike(&paths, 512), Ok(2));
        assert!(all_alike(&paths[..1], 512).is_err());
        let mut other = [7_u8; 1024];
        other[600] = 8;
        std::fs::write(&paths[2], other).unwrap();
        let fault = all_alike(&paths, 512).unwrap_err();
        assert!(
            fault.starts_with("1.db and 3.db: 1 of 2 pages differ"),
            "{fault}"
        );
    }

    #[test]
    fn readers_that_saw_nothing_or_too_much_do_not_pass() {
        let write = WriteId { writer: 1, seq: 0 };
        let found = BTreeMap::from([(1, write)]);
        let diary = |rows: &[(i64, WriteId)]| {
            let mut seen = Sightings::default();
            seen.add(rows.iter().copied()).unwrap();
            Diary {
                sightings: vec![seen],
                ..Diary::default()
            }
        };
        assert!(readers_outcome(&diary(&[(1, write)]), &found).is_ok());
        assert!(readers_outcome(&diary(&[]), &found).is_err());
        assert!(readers_outcome(&diary(&[(1, write), (2, write)]), &found).is_err());
        let mut broken = diary(&[(1, write)]);
        broken.faults.push("gone".to_owned());
        assert!(
            readers_outcome(&broken, &found)
                .unwrap_err()
                .contains("gone")
        );
    }
}
