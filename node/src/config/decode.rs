//! From texts to a typed [`Config`]: every setting that cannot be read becomes a problem, and reading goes on.

use std::path::PathBuf;
use std::time::Duration;

use halite_archive::Schedule;

use super::byte_size::ByteSize;
use super::duration::parse_duration;
use super::layers::{Given, Layers, Value};
use super::list;
use super::problem::{Origin, Problem};
use super::setting;
use super::{
    ArchiveConfig, CheckpointConfig, ClusterConfig, Config, DatabaseConfig, LimitsConfig,
    LogConfig, LogFormat, LogLevel, MemberConfig,
};

/// Reads what `layers` gave, defaults for the rest. A setting that could not be read has its default in the result and a
/// problem in `problems`.
pub(crate) fn decode(layers: &Layers, problems: &mut Vec<Problem>) -> Config {
    let mut decoder = Decoder { layers, problems };
    let node_id = decoder.value("node-id", whole);
    let listen = decoder.value("listen", text);
    let initial_members = decoder.members();
    let name = decoder
        .optional("name", text)
        .unwrap_or_else(|| format!("node-{node_id}"));
    let advertise = decoder.optional("advertise", text).unwrap_or_else(|| {
        let own = initial_members.iter().find(|member| member.id == node_id);
        own.map_or_else(|| listen.clone(), |own| own.addr.clone())
    });
    let archive_sync_interval = decoder.value("archive.sync-interval", duration);
    let archive_schedule = Schedule {
        levels: decoder.levels(),
        level_zero_retention: decoder.value("archive.l0-retention", duration),
        snapshot_interval: decoder.value("archive.snapshot-interval", duration),
        snapshot_retention: decoder.value("archive.snapshot-retention", duration),
    };
    Config {
        node_id,
        name,
        data_dir: decoder.value("data-dir", |dir| text(dir).map(PathBuf::from)),
        listen,
        advertise,
        cluster: ClusterConfig {
            name: decoder.value("cluster.name", text),
            initial_members,
            join: decoder.value("cluster.join", switch),
        },
        election_timeout: decoder.value("election-timeout", duration),
        heartbeat_interval: decoder.value("heartbeat-interval", duration),
        dbs: decoder.databases(archive_sync_interval),
        archive: decoder
            .optional("archive.url", text)
            .map(|url| ArchiveConfig {
                url,
                sync_interval: archive_sync_interval,
            }),
        archive_schedule,
        log: LogConfig {
            level: decoder.value("log.level", |level| {
                level.parse::<LogLevel>().map_err(|e| e.to_string())
            }),
            format: decoder.value("log.format", |format| {
                format.parse::<LogFormat>().map_err(|e| e.to_string())
            }),
        },
        log_cache: decoder.value("log-cache", size),
        checkpoint: CheckpointConfig {
            wal_size: decoder.value("checkpoint.wal-size", size),
        },
        scrub_interval: decoder.value("scrub-interval", duration),
        transaction_timeout: decoder.value("transaction-timeout", duration),
        limits: LimitsConfig {
            max_sessions: decoder.value("limits.max-sessions", count),
            max_inflight: decoder.value("limits.max-inflight", count),
            max_message: decoder.value("limits.max-message", size),
        },
    }
}

struct Decoder<'a> {
    layers: &'a Layers,
    problems: &'a mut Vec<Problem>,
}

impl Decoder<'_> {
    /// A setting that always has a value.
    fn value<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(key, &parse)
            .unwrap_or_else(|| parse(setting::by_key(key).default).expect("defaults can be read"))
    }

    /// A setting that may be absent.
    fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Value {
            given: Given::Text(given),
            origin,
        } = self.layers.get(key)?
        else {
            return None;
        };
        parse(given)
            .map_err(|message| {
                self.problems
                    .push(Problem::new(key, message).at(origin.clone()))
            })
            .ok()
    }

    fn members(&mut self) -> Vec<MemberConfig> {
        let key = "cluster.initial-members";
        match self.layers.get(key) {
            None => Vec::new(),
            Some(Value {
                given: Given::Text(given),
                origin,
            }) => {
                let members = list::members_from_text(given);
                members.unwrap_or_else(|message| self.refuse(key, message, origin))
            }
            Some(Value {
                given: Given::Items(items),
                origin,
            }) => list::ItemReader::new(key, origin, self.problems).members(items),
        }
    }

    fn databases(&mut self, sync_interval: Duration) -> Vec<DatabaseConfig> {
        let key = "dbs";
        match self.layers.get(key) {
            None => Vec::new(),
            Some(Value {
                given: Given::Text(given),
                ..
            }) => list::databases_from_text(given),
            Some(Value {
                given: Given::Items(items),
                origin,
            }) => list::ItemReader::new(key, origin, self.problems).databases(items, sync_interval),
        }
    }

    fn levels(&mut self) -> Vec<Duration> {
        let key = "archive.levels";
        let default = setting::by_key(key).default;
        let default = || list::levels_from_text(default).expect("defaults can be read");
        match self.layers.get(key) {
            None => default(),
            Some(Value {
                given: Given::Text(given),
                origin,
            }) => {
                let levels = list::levels_from_text(given);
                levels.unwrap_or_else(|message| {
                    self.refuse::<Duration>(key, message, origin);
                    default()
                })
            }
            Some(Value {
                given: Given::Items(items),
                origin,
            }) => list::ItemReader::new(key, origin, self.problems).levels(items),
        }
    }

    fn refuse<T>(&mut self, key: &str, message: String, origin: &Origin) -> Vec<T> {
        self.problems
            .push(Problem::new(key, message).at(origin.clone()));
        Vec::new()
    }
}

pub(super) fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn whole(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number"))
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number up to {}", u32::MAX))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse::<ByteSize>().map_err(|error| error.to_string())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}
