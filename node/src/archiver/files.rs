//! [`Files`]: what an archive holds, as far as this node knows.
//!
//! Owns the listing between two looks at the destination: what this node writes and deletes is noted in it, so that merging asks for no
//! listing of its own. Written by [`DatabaseArchive`](super::sync::DatabaseArchive) and after each [`Upkeep`](super::upkeep::Upkeep).

use std::collections::{BTreeMap, BTreeSet};

use halite_archive::{
    Destination, DestinationError, FileInfo, FileKey, Level, Target, list_all, plan,
};
use halite_ltx::{HEADER_LEN, Txid};
use jiff::Timestamp;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<FileKey, FileInfo>,
    /// Listed, but not what they should be: as if they were gone.
    damaged: BTreeSet<FileKey>,
}

impl Files {
    /// What the destination says now. Times come from inside of the files, where the destination's own may be wrong, and are asked for once.
    pub(super) async fn look(
        &self,
        destination: &dyn Destination,
    ) -> Result<Self, DestinationError> {
        let listed = list_all(destination).await?;
        // Shorter than any archive file: what a full disk or a careless copy leaves.
        let whole = listed
            .into_iter()
            .filter(|file| file.bytes > HEADER_LEN as u64);
        let sound = whole.filter(|file| !self.damaged.contains(&file.key));
        let is_known = |file: &FileInfo| {
            let known = self.files.get(&file.key);
            known.is_some_and(|known| known.bytes == file.bytes)
        };
        let (known, new): (Vec<_>, Vec<_>) = sound.partition(is_known);
        let known = known
            .iter()
            .filter_map(|file| self.files.get(&file.key).copied());
        let files = known.chain(destination.dated(new).await?);
        Ok(Self {
            files: files.map(|file| (file.key, file)).collect(),
            damaged: self.damaged.clone(),
        })
    }

    pub(super) fn listing(&self) -> Vec<FileInfo> {
        self.files.values().copied().collect()
    }

    /// The last transaction there is; 0 without any.
    pub(super) fn newest(&self) -> u64 {
        let ends = self.files.keys().map(|key| key.max.get());
        ends.max().unwrap_or(0)
    }

    /// When this transaction was committed, if a file ends with it. A snapshot has a time of its own.
    pub(super) fn committed_at(&self, txid: u64) -> Option<Timestamp> {
        let mut files = self.files.values();
        let file =
            files.find(|file| file.key.max.get() == txid && file.key.level != Level::SNAPSHOT)?;
        Some(file.timestamp)
    }

    pub(super) fn add(&mut self, file: FileInfo) {
        self.files.insert(file.key, file);
    }

    pub(super) fn remove(&mut self, key: FileKey) {
        self.files.remove(&key);
    }

    /// From now on the file does not count.
    pub(super) fn leave_out(&mut self, damaged: FileKey) {
        self.files.remove(&damaged);
        self.damaged.insert(damaged);
    }

    /// What keeps the files from giving back the newest state, if anything does; `recorded` is the last transaction that was seen there.
    pub(super) fn hole(&self, recorded: u64) -> Option<String> {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ArchiveHoleUnseen) {
            return None;
        }
        if self.files.is_empty() {
            return (recorded > 0).then(|| "it is empty".to_owned());
        }
        match plan(&self.listing(), Target::Latest) {
            Ok(plan) if plan.txid().get() < recorded => Some(format!(
                "it ends at transaction {}, and was at {}",
                plan.txid(),
                Txid::new(recorded)
            )),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}
