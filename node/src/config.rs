//! The configuration of a node: one typed [`Config`], put together from file < environment < flags.
//!
//! Owns every setting: its default ([`SETTINGS`]), where it may be given, what it may be. Never starts, opens or connects
//! anything. `halite serve` loads a [`Config`] with [`Config::load`]; tests and the simulation begin with [`Config::default`].

mod byte_size;
mod decode;
mod duration;
mod expand;
mod layers;
mod list;
mod log_config;
mod nearest;
mod print;
mod problem;
mod replica_url;
mod setting;
mod sources;
#[cfg(test)]
mod tests;
mod validate;
mod yaml;

use std::path::PathBuf;
use std::time::Duration;

use halite_archive::Schedule;

pub use byte_size::{ByteSize, ByteSizeError};
pub use duration::{DurationError, format_duration, parse_duration};
pub use log_config::{LogConfig, LogFormat, LogLevel};
pub(crate) use nearest::nearest;
pub(crate) use problem::system_words;
pub use problem::{ConfigError, Origin, Problem};
pub use setting::{SETTINGS, Setting};
pub use sources::{Loaded, Sources};
pub(crate) use validate::{address_fault, database_name_fault};

/// What a node is told at its start. The keys of the file have the names of the fields, with dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Number of this node, from 1; never given to another node again.
    pub node_id: u64,
    /// Name of this node for people.
    pub name: String,
    pub data_dir: PathBuf,
    /// `host:port` to listen on, for clients and peers alike.
    pub listen: String,
    /// `host:port` under which clients and peers reach this node.
    pub advertise: String,
    pub cluster: ClusterConfig,
    pub election_timeout: Duration,
    pub heartbeat_interval: Duration,
    /// Databases that the primary creates if they are absent, and where each is archived.
    pub dbs: Vec<DatabaseConfig>,
    /// Where databases go that name no replica of their own.
    pub archive: Option<ArchiveConfig>,
    /// How files of all archives are merged, and how long they are kept.
    pub archive_schedule: Schedule,
    pub log: LogConfig,
    /// Memory for the newest entries of the replicated log.
    pub log_cache: ByteSize,
    pub checkpoint: CheckpointConfig,
    /// Within this time each page is compared with what was committed. Zero: never.
    pub scrub_interval: Duration,
    pub transaction_timeout: Duration,
    pub limits: LimitsConfig,
}

/// Which cluster the node belongs to, and how it comes to be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    pub name: String,
    /// The members of a cluster that does not exist yet, this node among them. Empty: this node alone, unless `join`.
    pub initial_members: Vec<MemberConfig>,
    /// Start blank and wait until a member of an existing cluster adds this node.
    pub join: bool,
}

/// One of the first members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    pub id: u64,
    /// `host:port`.
    pub addr: String,
}

/// One database to create whenever it is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    pub name: String,
    /// Bytes, a power of two from 512 to 65536.
    pub page_size: u32,
    /// Where it is archived. `None`: wherever `archive` says; an empty list: nowhere.
    pub replicas: Option<Vec<ReplicaConfig>>,
}

/// One destination of one database, which is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaConfig {
    pub url: String,
    pub sync_interval: Duration,
}

/// The default destination: each database has the folder of its name below `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    pub url: String,
    pub sync_interval: Duration,
}

/// When the WAL goes back into the database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    pub wal_size: ByteSize,
}

/// What a node accepts at most at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Client streams.
    pub max_sessions: u32,
    /// Calls waiting for their answer.
    pub max_inflight: u32,
    /// One message from a client.
    pub max_message: ByteSize,
}

impl Default for Config {
    /// Every setting at its default: a one-node cluster of itself.
    fn default() -> Self {
        decode::decode(&layers::Layers::default(), &mut Vec::new())
    }
}

impl Config {
    /// Where `database` is archived: its own replicas, or its folder in the default archive, or nowhere.
    pub fn replicas_of(&self, database: &str) -> Vec<ReplicaConfig> {
        let own = self
            .dbs
            .iter()
            .find(|db| db.name == database)
            .and_then(|db| db.replicas.clone());
        own.unwrap_or_else(|| {
            self.archive
                .iter()
                .map(|archive| archive.replica_of(database))
                .collect()
        })
    }

    /// The members that a new cluster starts with; empty if this node waits to be added.
    pub fn first_members(&self) -> Vec<MemberConfig> {
        if self.cluster.join {
            return Vec::new();
        }
        if self.cluster.initial_members.is_empty() {
            return vec![MemberConfig {
                id: self.node_id,
                addr: self.advertise.clone(),
            }];
        }
        self.cluster.initial_members.clone()
    }
}

impl ArchiveConfig {
    fn replica_of(&self, database: &str) -> ReplicaConfig {
        ReplicaConfig {
            url: replica_url::below(&self.url, database),
            sync_interval: self.sync_interval,
        }
    }
}

impl DatabaseConfig {
    /// A database with every default.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            page_size: list::PAGE_SIZE_DEFAULT,
            replicas: None,
        }
    }
}
