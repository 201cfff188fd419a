//! The table of every setting: its place in the file, its flag, its environment variable and its default.
//!
//! The one place that knows defaults. The file reader, the environment, the flags of `halite serve`, `--print-config` and the
//! test of the sample file all go by this table.

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Place in the file: `checkpoint.wal-size` is `wal-size` in the section `checkpoint`.
    pub key: &'static str,
    /// Long flag of `halite serve`, without dashes. The environment variable is named after it, too.
    pub flag: &'static str,
    /// What the value is, for `--help`.
    pub value_name: &'static str,
    /// As it would be written; empty means that the value is absent or derived from others.
    pub default: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
}

impl Setting {
    /// `HALITE_` and the flag in capitals.
    pub fn env(&self) -> String {
        format!(
            "HALITE_{}",
            self.flag.replace('-', "_").to_ascii_uppercase()
        )
    }

    /// The section of the file that the setting is in, if it is in one.
    pub(crate) fn section(&self) -> Option<&'static str> {
        self.key.split_once('.').map(|(section, _)| section)
    }

    /// The key inside its section.
    pub(crate) fn leaf(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, leaf)| leaf)
    }

    /// Lists are written as YAML lists in the file, and comma-separated in the environment and in flags.
    pub(crate) fn is_list(&self) -> bool {
        matches!(
            self.key,
            "cluster.initial-members" | "dbs" | "archive.levels"
        )
    }

    /// Yes-or-no settings have a flag that may stand alone.
    pub(crate) fn is_switch(&self) -> bool {
        self.key == "cluster.join"
    }
}

const fn setting(
    key: &'static str,
    flag: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        flag,
        value_name,
        default,
        help,
    }
}

/// Every setting, the settings of one section side by side, in the order in which they are printed.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting("node-id", "node-id", "NUMBER", "1", "Number of this node, which no other node of the cluster has"),
    setting("name", "name", "TEXT", "", "Name of this node in logs and in `halite status` [default: node-<node-id>]"),
    setting("data-dir", "data-dir", "DIR", "./halite-data", "Where databases and the log are kept"),
    setting("listen", "listen", "HOST:PORT", "127.0.0.1:7420", "Address to listen on, for clients and for the other nodes"),
    setting("advertise", "advertise", "HOST:PORT", "", "Address under which clients and the other nodes reach this one [default: this node's entry in the initial members, else --listen]"),
    setting("cluster.name", "cluster-name", "TEXT", "halite", "Name of the cluster; nodes of other clusters are refused"),
    setting("cluster.initial-members", "initial-members", "ID=HOST:PORT,...", "", "First members of a new cluster, this node among them [default: this node alone]"),
    setting("cluster.join", "join", "true|false", "false", "Start blank and wait for `halite member add`"),
    setting("election-timeout", "election-timeout", "DURATION", "400ms", "Silence of the primary after which the others elect a new one"),
    setting("heartbeat-interval", "heartbeat-interval", "DURATION", "50ms", "How often the primary says that it is there"),
    setting("dbs", "dbs", "NAME,...", "", "Databases that the primary creates whenever they are absent"),
    setting("archive.url", "archive-url", "URL", "", "Where databases are archived, each in a folder of its own below"),
    setting("archive.sync-interval", "archive-sync-interval", "DURATION", "1s", "How often new transactions go to the archive"),
    setting("archive.levels", "archive-levels", "DURATION,...", "30s,5m,1h", "How much time one file of level 1, 2, ... covers, each made of files of the level below"),
    setting("archive.l0-retention", "archive-l0-retention", "DURATION", "5m", "How long every sync can be restored; 0s: for ever"),
    setting("archive.snapshot-interval", "archive-snapshot-interval", "DURATION", "24h", "How often a database is archived whole"),
    setting("archive.snapshot-retention", "archive-snapshot-retention", "DURATION", "24h", "How far back a database can be restored"),
    setting("log.level", "log-level", "LEVEL", "info", "error, warn, info, debug or trace; RUST_LOG goes before it"),
    setting("log.format", "log-format", "FORMAT", "text", "text, json or pretty"),
    setting("log-cache", "log-cache", "SIZE", "64MiB", "Memory for the newest entries of the replicated log"),
    setting("checkpoint.wal-size", "checkpoint-wal-size", "SIZE", "16MiB", "WAL size from which a database is checkpointed"),
    setting("scrub-interval", "scrub-interval", "DURATION", "24h", "Within this time each page of each database is compared with what was committed; 0s: never"),
    setting("transaction-timeout", "transaction-timeout", "DURATION", "5s", "Longest time an interactive transaction may stay open"),
    setting("limits.max-sessions", "max-sessions", "NUMBER", "4096", "Client streams open at once; more are refused"),
    setting("limits.max-inflight", "max-inflight", "NUMBER", "16384", "Calls waiting for an answer at once; more are refused, to be tried again"),
    setting("limits.max-message", "max-message", "SIZE", "64MiB", "Largest single message accepted from a client"),
];

/// The row of `key`, which has to be in the table.
pub(crate) fn by_key(key: &str) -> &'static Setting {
    find(key).expect("the key is in the table of settings")
}

/// The row of `key`, if there is one.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The sections of the file, in order.
pub(crate) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = None;
    SETTINGS
        .iter()
        .filter_map(Setting::section)
        .filter(move |section| last.replace(*section) != Some(*section))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_flags_and_variables_are_unique() {
        let keys: BTreeSet<_> = SETTINGS.iter().map(|s| s.key).collect();
        let flags: BTreeSet<_> = SETTINGS.iter().map(|s| s.flag).collect();
        let envs: BTreeSet<_> = SETTINGS.iter().map(Setting::env).collect();
        assert_eq!(
            (keys.len(), flags.len(), envs.len()),
            (SETTINGS.len(), SETTINGS.len(), SETTINGS.len())
        );
    }

    #[test]
    fn settings_of_one_section_stand_together() {
        let sections: Vec<_> = sections().collect();
        assert_eq!(
            sections,
            ["cluster", "archive", "log", "checkpoint", "limits"]
        );
    }

    #[test]
    fn variables_are_named_after_flags() {
        assert_eq!(
            by_key("checkpoint.wal-size").env(),
            "HALITE_CHECKPOINT_WAL_SIZE"
        );
        assert_eq!(
            by_key("cluster.initial-members").env(),
            "HALITE_INITIAL_MEMBERS"
        );
    }
}
