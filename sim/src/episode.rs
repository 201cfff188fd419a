//! [`Episode`]: a sequence of faults that leads to a rare state on purpose. Plain values; the world plays them.
//!
//! Random faults come to such states too seldom. An episode has a cast (the primary at its beginning and two followers), waits for what the
//! nodes show, and does the next thing only then. It is drawn from a stream of random numbers of its own: what a seed draws beside it is the same
//! with and without it. Some episodes are alone in their run, most mix with the seed's random faults.

mod scripts;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Error, bail};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::fault::{Fault, Part, Who};

/// The stream of random numbers: a seed with these bits turned.
const STREAM: u64 = 0x0e01_50de_5eed_0000;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Which sequence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name {
            $($(#[$doc])* $name,)*
        }

        impl Name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As the command line and plans have it.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

names! {
    /// A follower's database refuses a write that the log then lets go of; the follower starts again well, and is made the primary.
    UnwellThenLeads = "unwell-then-leads";
    /// The primary is cut off or stalled again and again, with some of the clients on its side.
    StaleSide = "stale-side";
    /// A deposed primary has entries of its own and catches up by page diff; it loses power in the middle.
    DiffIntoTail = "diff-into-tail";
    /// A page diff is installed, its checkpoint fails, and the node loses power; then the primary is lost for a while.
    UnfinishedDiff = "unfinished-diff";
    /// A large transaction is under way when the primary is lost.
    ChunksCut = "chunks-cut";
    /// Leadership is handed over, and the network or a process fails in the middle.
    TransferCut = "transfer-cut";
    /// A node needs pages, and is elected while they come.
    LeadsInRepair = "leads-in-repair";
    /// The disk under the log is slow on one node alone, and that node loses power.
    PowerAheadOfDisk = "power-ahead-of-disk";
    /// A deposed primary's entries are replaced, and it is started again at once.
    TailThenRestart = "tail-then-restart";
    /// The files of one database fail on one node, in one way after the other; the node starts again meanwhile.
    OneDatabaseFails = "one-database-fails";
    /// Nothing but load: every setting is the product's, every workload is there, and no fault.
    Defaults = "defaults";
    /// The archive cannot be reached for a while.
    ArchiveAway = "archive-away";
    /// Files of the archive are lost, again and again.
    ArchiveLoses = "archive-loses";
    /// The disks under all logs are narrow, and large transactions are written.
    NarrowDisks = "narrow-disks";
    /// The disk under one log hangs.
    HangingDisk = "hanging-disk";
    /// A follower's disks are put back to an older copy of them; it is removed, and a new node added.
    DiskPutBack = "disk-put-back";
    /// A follower comes back with empty disks under its id, in the moment when it matters what it had acknowledged; it is removed, and a new
    /// node added.
    IdUsedAgain = "id-used-again";
    /// Another machine runs on copies of a node's disks, beside it.
    CopiedDirectory = "copied-directory";
    /// Every message takes long, and nobody writes for a while.
    FarApart = "far-apart";
    /// What is sent to a follower waits for its disk, and leadership moves meanwhile.
    FullStreams = "full-streams";
    /// The primary is cut off with some of the clients, and the other voters start again: they have forgotten when they last heard it, and elect
    /// another one long before it gives its role up.
    VotersForget = "voters-forget";
    /// The primary is cut off with some of the clients, and dies while their transactions wait for the quorum.
    DiesAtTheGate = "dies-at-the-gate";
    /// What nodes answer reaches no client, and all of them start again with what their checkpoints hold; then the clients ask again.
    AnswersLost = "answers-lost";
    /// The primary is slow to say what is committed, and is lost; the disks of those that may follow it are slow.
    SlowSuccessor = "slow-successor";
    /// A voter loses power when it has just voted, and comes back alone.
    VoteThenPower = "vote-then-power";
    /// The primary is far from the other nodes and hands over: while the news of that are on their way, so are old answers.
    FarHandover = "far-handover";
}

/// Those that seeds draw. One whose findings are not mended yet is there by name only.
const DRAWN: &[Name] = &[
    Name::Defaults,
    Name::ChunksCut,
    Name::TransferCut,
    Name::PowerAheadOfDisk,
    Name::TailThenRestart,
    Name::ArchiveAway,
    Name::NarrowDisks,
    Name::HangingDisk,
    Name::DiskPutBack,
    Name::IdUsedAgain,
    Name::FarApart,
    Name::CopiedDirectory,
    Name::UnwellThenLeads,
    Name::StaleSide,
    Name::DiffIntoTail,
    Name::UnfinishedDiff,
    Name::LeadsInRepair,
    Name::OneDatabaseFails,
    Name::FullStreams,
    Name::VotersForget,
    Name::DiesAtTheGate,
    Name::ArchiveLoses,
    Name::AnswersLost,
    Name::SlowSuccessor,
    Name::VoteThenPower,
    Name::FarHandover,
];

/// Which episode a run is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that the seed draws, if it draws one.
    #[default]
    Drawn,
    /// None.
    None,
    /// This one.
    Named(Name),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Which.
    pub name: Name,
    /// No random fault comes beside it.
    pub alone: bool,
    /// When it begins.
    pub at: Duration,
    /// What happens, one after the other.
    pub scenes: Vec<Scene>,
    /// Decides what the plan lacks for it.
    pub seed: u64,
}

/// One thing, and when.
#[derive(Clone, Debug)]
pub struct Scene {
    /// When.
    pub when: When,
    /// What.
    pub act: Act,
}

/// When a scene comes, counted from the one before.
#[derive(Clone, Debug)]
pub enum When {
    /// After this.
    After(Duration),
    /// Once this is so. If it is not so within the time, the episode is over.
    Once(State, Duration),
}

/// What an episode waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is a primary, and two nodes beside it run.
    Cast,
    /// A database of the node is unwell.
    Unwell(Who, usize),
    /// A log has let go of a transaction that this database of the node lacks.
    LacksWhatIsPurged(Who, usize),
    /// The node runs.
    Runs(Who),
    /// The operator waits for the answer of a node that hands leadership over.
    HandingOver,
    /// Some database of the node needs repair.
    NeedsRepair(Who),
    /// Another node takes writes.
    IsDeposed(Who),
    /// The log of the node goes on beyond what it knows as committed.
    HasTail(Who),
    /// The log of the node ends in the middle of a transaction.
    HasOpenChunks(Who),
    /// A page diff of the node is installed, and its checkpoint not finished.
    DiffNotCheckpointed(Who),
    /// Entries in the log of the node have just been replaced.
    TailReplaced(Who),
    /// The node has voted for another one since the parts were given away.
    HasVoted(Who),
    /// The node takes writes, in the term in which the parts were given away.
    LeadsOn(Who),
    /// The node says that the disk under its log hangs.
    SaysThatItHangs(Who),
    /// No database of the node is in trouble.
    IsWell(Who),
    /// The node has all databases where the primary has them, and none in trouble.
    HoldsAll(Who),
    /// The node has stopped taking part, does not run, or has just started and holds nothing.
    TakesNoPart(Who),
    /// So has the machine that runs on a copy of its disks.
    CopyTakesNoPart(Who),
}

/// What an episode does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Gives the parts away.
    Cast,
    /// A fault.
    Fault(Fault),
    /// Clients of a database pause, or go on.
    Quiet(usize, bool),
    /// The clients of all databases.
    QuietAll(bool),
    /// The disks of the node are well.
    Mend(Who),
    /// The node is to run now.
    Start(Who),
    /// All links are well.
    Reconnect,
    /// Nothing.
    Wait,
    /// This has to be so, unless random faults come beside the episode.
    Demand(State),
}

impl Episode {
    /// The episode of a seed. Which clients and databases there are is not known here: faults name them by their place.
    pub fn of(seed: u64, choice: Choice, clients: u64) -> Option<Self> {
        let mut rng = SmallRng::seed_from_u64(seed ^ STREAM);
        let rng = &mut rng;
        let drawn = rng.random_ratio(1, 4);
        let any = *DRAWN.choose(rng)?;
        let name = match choice {
            Choice::None => return None,
            Choice::Named(name) => name,
            Choice::Drawn if drawn => any,
            Choice::Drawn => return None,
        };
        // Together with the loss of another node, what a disk that was put back had acknowledged may be lost: nobody else may know of it.
        let is_alone = matches!(
            name,
            Name::Defaults
                | Name::DiskPutBack
                | Name::IdUsedAgain
                | Name::FarApart
                | Name::CopiedDirectory
        );
        let alone = rng.random_ratio(1, 2) || is_alone;
        let at = Duration::from_millis(rng.random_range(800..4_000));
        let mut scenes = vec![Scene {
            when: When::Once(State::Cast, Duration::from_secs(6)),
            act: Act::Cast,
        }];
        scripts::write(name, rng, clients, &mut scenes);
        Some(Self {
            name,
            alone,
            at,
            scenes,
            seed: rng.random(),
        })
    }

    /// Databases that it needs.
    pub fn databases_min(&self) -> usize {
        match self.name {
            Name::UnwellThenLeads | Name::DiffIntoTail | Name::OneDatabaseFails => 2,
            _ => 1,
        }
    }

    /// A log has to be purged in its time.
    pub fn wants_early_purge(&self) -> bool {
        matches!(self.name, Name::UnwellThenLeads | Name::DiffIntoTail)
    }

    /// Ordinary transactions have to come in chunks.
    pub fn wants_chunks(&self) -> bool {
        matches!(
            self.name,
            Name::ChunksCut | Name::DiffIntoTail | Name::TailThenRestart | Name::FullStreams
        )
    }

    /// A checkpoint has to come soon after the last write.
    pub fn wants_early_checkpoints(&self) -> bool {
        self.name == Name::AnswersLost
    }

    /// Clients have to keep locks in the first database: most of what they ask changes nothing.
    pub fn wants_locks(&self) -> bool {
        matches!(
            self.name,
            Name::UnwellThenLeads | Name::LeadsInRepair | Name::VotersForget
        )
    }

    /// Large transactions have to be written, with the product's chunks.
    pub fn wants_large(&self) -> bool {
        self.name == Name::NarrowDisks
    }

    /// Nodes and clients have to be far apart, and few enough that all of them can be told to be quiet.
    pub fn wants_distance(&self) -> bool {
        self.name == Name::FarApart
    }

    /// Nothing is to be drawn.
    pub fn wants_defaults(&self) -> bool {
        self.name == Name::Defaults
    }

    /// Databases have to be archived.
    pub fn wants_archive(&self) -> bool {
        matches!(self.name, Name::ArchiveAway | Name::ArchiveLoses)
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "none" {
            return Ok(Self::None);
        }
        let Some(name) = Name::ALL.iter().find(|name| name.text() == text) else {
            let names: Vec<_> = Name::ALL.iter().map(|name| name.text()).collect();
            bail!(
                "there is no episode {text:?}; there are none, {}",
                names.join(", ")
            );
        };
        Ok(Self::Named(*name))
    }
}

impl fmt::Display for Choice {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drawn => "drawn",
            Self::None => "none",
            Self::Named(name) => name.text(),
        })
    }
}

/// The primary at the beginning, wherever leadership is by now.
pub(crate) const LEAD: Who = Who::Cast(Part::Lead);
/// A follower at the beginning.
pub(crate) const FIRST: Who = Who::Cast(Part::First);
/// Another one.
pub(crate) const SECOND: Who = Who::Cast(Part::Second);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_episode_each_time_and_some_draw_none() {
        let text = |choice, seed| format!("{:?}", Episode::of(seed, choice, 5));
        for seed in 0..50 {
            assert_eq!(text(Choice::Drawn, seed), text(Choice::Drawn, seed));
            assert_eq!(text(Choice::None, seed), "None");
        }
        let drawn = (0..1_000).filter_map(|seed| Episode::of(seed, Choice::Drawn, 5));
        let drawn: Vec<Name> = drawn.map(|episode| episode.name).collect();
        assert!((150..350).contains(&drawn.len()), "{}", drawn.len());
        assert!(DRAWN.iter().all(|name| drawn.contains(name)), "{drawn:?}");
    }

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for name in Name::ALL {
            let choice = Choice::Named(*name);
            assert_eq!(choice.to_string().parse::<Choice>().unwrap(), choice);
        }
        let wrong = "stale".parse::<Choice>().unwrap_err().to_string();
        assert!(wrong.contains("stale-side"), "{wrong}");
    }
}
