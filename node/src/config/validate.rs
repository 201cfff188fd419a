//! What settings have to be, each alone and all together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use halite_archive::Schedule;

use super::problem::Problem;
use super::replica_url::{self, shown};
use super::{ByteSize, Config, format_duration};

impl Config {
    /// Every problem of this configuration at once; none means that a node can start with it.
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Check {
            problems: Vec::new(),
        };
        check.node(self);
        check.cluster(self);
        check.timing(self);
        check.databases(self);
        check.destinations(self);
        check.schedule(&self.archive_schedule);
        check.sizes(self);
        check.problems
    }
}

/// Longest name of a node or a cluster: they are log fields.
const NAME_CHARS_MAX: usize = 64;
/// Longest name of a database that is created now.
const DATABASE_NAME_BYTES_MAX: usize = 64;

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn refuse(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    fn require(&mut self, key: &str, fault: Option<String>) {
        if let Some(message) = fault {
            self.refuse(key, message);
        }
    }

    fn node(&mut self, config: &Config) {
        if config.node_id == 0 {
            self.refuse("node-id", "has to be 1 or more");
        }
        self.require("name", name_fault(&config.name));
        if config.data_dir.as_os_str().is_empty() {
            self.refuse("data-dir", "is empty");
        }
        let listen_fault = address_fault(&config.listen);
        let own_entry = config
            .cluster
            .initial_members
            .iter()
            .any(|member| member.addr == config.advertise);
        if own_entry {
            // Checked with the members.
        } else if config.advertise != config.listen {
            let fault =
                address_fault(&config.advertise).or_else(|| unreachable_fault(&config.advertise));
            self.require("advertise", fault);
        } else if listen_fault.is_none() {
            let fault = unreachable_fault(&config.listen);
            self.require(
                "advertise",
                fault.map(|fault| format!("has to be set: as listen, {fault}")),
            );
        }
        self.require("listen", listen_fault);
    }

    fn cluster(&mut self, config: &Config) {
        self.require("cluster.name", name_fault(&config.cluster.name));
        let key = "cluster.initial-members";
        let members = &config.cluster.initial_members;
        if members.is_empty() {
            return;
        }
        if config.cluster.join {
            self.refuse("cluster.join", "is set together with `initial-members`; a node either founds a cluster or joins one");
        }
        let (mut ids, mut addrs) = (BTreeSet::new(), BTreeSet::new());
        for member in members {
            if member.id == 0 {
                self.refuse(key, "an id has to be 1 or more");
            } else if !ids.insert(member.id) {
                self.refuse(key, format!("id {} is given twice", member.id));
            }
            if let Some(fault) =
                address_fault(&member.addr).or_else(|| unreachable_fault(&member.addr))
            {
                self.refuse(key, format!("member {}: {fault}", member.id));
            } else if !addrs.insert(&member.addr) {
                self.refuse(key, format!("address {} is given twice", member.addr));
            }
        }
        match members.iter().find(|member| member.id == config.node_id) {
            None => self.refuse(
                key,
                format!("this node (node-id {}) is not among them", config.node_id),
            ),
            Some(own) if own.addr != config.advertise => {
                let message = format!(
                    "{} differs from this node's entry {} in the initial members",
                    config.advertise, own.addr
                );
                self.refuse("advertise", message);
            }
            Some(_) => {}
        }
    }

    fn timing(&mut self, config: &Config) {
        let (heartbeat, election) = (config.heartbeat_interval, config.election_timeout);
        self.range(
            "heartbeat-interval",
            heartbeat,
            Duration::from_millis(5),
            Duration::from_secs(10),
        );
        self.range(
            "election-timeout",
            election,
            Duration::from_millis(20),
            Duration::from_secs(60),
        );
        if election < heartbeat * 3 {
            let least = format_duration(heartbeat * 3);
            let message = format!(
                "has to be at least three heartbeats ({least}), or one late packet elects a new primary"
            );
            self.refuse("election-timeout", message);
        }
        self.range(
            "transaction-timeout",
            config.transaction_timeout,
            Duration::from_millis(10),
            Duration::from_secs(60),
        );
        if !config.scrub_interval.is_zero() {
            self.range(
                "scrub-interval",
                config.scrub_interval,
                SCRUB_INTERVAL.0,
                SCRUB_INTERVAL.1,
            );
        }
        if let Some(archive) = &config.archive {
            self.range(
                "archive.sync-interval",
                archive.sync_interval,
                SYNC_INTERVAL.0,
                SYNC_INTERVAL.1,
            );
        }
    }

    fn databases(&mut self, config: &Config) {
        let mut names = BTreeSet::new();
        for db in &config.dbs {
            self.require("dbs", database_name_fault(&db.name));
            if !names.insert(&db.name) {
                self.refuse("dbs", format!("database `{}` is given twice", db.name));
            }
            if !db.page_size.is_power_of_two() || !(512..=65536).contains(&db.page_size) {
                let message = format!(
                    "database `{}`: page-size {} is not a power of two from 512 to 65536",
                    db.name, db.page_size
                );
                self.refuse("dbs", message);
            }
            for replica in db.replicas.iter().flatten() {
                if let Some(fault) = replica_url::fault(&replica.url) {
                    self.refuse("dbs", format!("database `{}`: replica: {fault}", db.name));
                }
                if let Some(fault) =
                    range_fault(replica.sync_interval, SYNC_INTERVAL.0, SYNC_INTERVAL.1)
                {
                    self.refuse(
                        "dbs",
                        format!("database `{}`: replica: sync-interval {fault}", db.name),
                    );
                }
            }
        }
        if let Some(archive) = &config.archive {
            self.require("archive.url", replica_url::fault(&archive.url));
        }
    }

    /// Two databases in one place would overwrite each other.
    fn destinations(&mut self, config: &Config) {
        let mut used: Vec<(String, &str)> = Vec::new();
        let mut names = BTreeSet::new();
        for db in config.dbs.iter().filter(|db| names.insert(&db.name)) {
            for replica in config.replicas_of(&db.name) {
                let place = replica.url.trim_end_matches('/').to_owned();
                match used.iter().find(|(other, _)| *other == place) {
                    Some((_, other)) if *other == db.name => {
                        self.refuse(
                            "dbs",
                            format!(
                                "database `{}` has the replica {} twice",
                                db.name,
                                shown(&place)
                            ),
                        );
                    }
                    Some((_, other)) => {
                        let message = format!(
                            "databases `{other}` and `{}` have the same replica {}",
                            db.name,
                            shown(&place)
                        );
                        self.refuse("dbs", message);
                    }
                    None => used.push((place, &db.name)),
                }
            }
        }
    }

    fn schedule(&mut self, schedule: &Schedule) {
        let key = "archive.levels";
        let levels = &schedule.levels;
        if levels.len() > Schedule::LEVELS_MAX {
            let message = format!(
                "are {}; there can be {} at most",
                levels.len(),
                Schedule::LEVELS_MAX
            );
            self.refuse(key, message);
        }
        for (level, interval) in (1..).zip(levels) {
            let fault = range_fault(*interval, KEPT_OR_EVERY.0, KEPT_OR_EVERY.1);
            self.require(key, fault.map(|fault| format!("level {level}: {fault}")));
        }
        for (level, pair) in (1..).zip(levels.windows(2)) {
            if pair[1] <= pair[0] {
                let [lower, upper] = [pair[0], pair[1]].map(format_duration);
                let above = level + 1;
                let message = format!(
                    "level {above} ({upper}) has to be longer than level {level} ({lower}), of whose files it is made"
                );
                self.refuse(key, message);
            }
        }
        let (least, most) = KEPT_OR_EVERY;
        let every = schedule.snapshot_interval;
        self.range("archive.snapshot-interval", every, least, most);
        if let Some(highest) = levels.last().filter(|highest| **highest > every) {
            let message = format!(
                "{} is shorter than the highest level ({})",
                format_duration(every),
                format_duration(*highest)
            );
            self.refuse("archive.snapshot-interval", message);
        }
        let kept = schedule.snapshot_retention;
        self.range("archive.snapshot-retention", kept, least, most);
        let kept = schedule.level_zero_retention;
        self.range("archive.l0-retention", kept, Duration::ZERO, most);
    }

    fn sizes(&mut self, config: &Config) {
        let (kib, mib, gib) = (
            ByteSize::from_bytes(1 << 10),
            ByteSize::from_mib(1),
            ByteSize::from_mib(1 << 10),
        );
        let tib = ByteSize::from_mib(1 << 20);
        for (key, size, least, most) in [
            ("log-cache", config.log_cache, mib, tib),
            (
                "checkpoint.wal-size",
                config.checkpoint.wal_size,
                ByteSize::from_bytes(64 * kib.bytes()),
                tib,
            ),
            ("limits.max-message", config.limits.max_message, mib, gib),
        ] {
            if size < least || size > most {
                self.refuse(key, format!("{size} is not between {least} and {most}"));
            }
        }
        for (key, count) in [
            ("limits.max-sessions", config.limits.max_sessions),
            ("limits.max-inflight", config.limits.max_inflight),
        ] {
            if count == 0 {
                self.refuse(key, "has to be 1 or more");
            }
        }
    }

    fn range(&mut self, key: &str, value: Duration, least: Duration, most: Duration) {
        self.require(key, range_fault(value, least, most));
    }
}

/// How often an archive may be written to.
const SYNC_INTERVAL: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(24 * 3600));

/// How long it may take until each page was looked at: a year at most.
const SCRUB_INTERVAL: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(366 * 24 * 3600));

/// What one file of an archive may cover, and how long it may be kept: ten years at most.
const KEPT_OR_EVERY: (Duration, Duration) = (
    Duration::from_millis(100),
    Duration::from_secs(10 * 366 * 24 * 3600),
);

fn range_fault(value: Duration, least: Duration, most: Duration) -> Option<String> {
    let outside = value < least || value > most;
    outside.then(|| {
        let [value, least, most] = [value, least, most].map(format_duration);
        format!("{value} is not between {least} and {most}")
    })
}

fn name_fault(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Some(format!("is longer than {NAME_CHARS_MAX} characters"));
    }
    name.chars()
        .any(char::is_control)
        .then(|| "contains control characters".to_owned())
}

/// What is wrong with `name` as the name of a new database, if anything. It is a file name on every node and part of archive paths. The one rule
/// for all that name databases: configuration, command line, admin calls.
pub(crate) fn database_name_fault(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let good_start = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let good = good_start && name.len() <= DATABASE_NAME_BYTES_MAX && name.chars().all(allowed);
    (!good).then(|| {
        format!(
            "`{name}` cannot name a database: 1 to {DATABASE_NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`, with a letter, digit or `_` first"
        )
    })
}

/// What is wrong with `addr` as `host:port`, if anything.
pub(crate) fn address_fault(addr: &str) -> Option<String> {
    let Some((host, port)) = addr.rsplit_once(':') else {
        return Some(format!("`{addr}` has no port (example: 127.0.0.1:7420)"));
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_good = match bracketed {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    let port_good = port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    (!host_good || !port_good).then(|| {
        format!("`{addr}` is not HOST:PORT (examples: 127.0.0.1:7420, db1:7420, [::1]:7420)")
    })
}

/// Why others cannot reach `addr`, if that can be told from the address.
fn unreachable_fault(addr: &str) -> Option<String> {
    let (host, port) = addr.rsplit_once(':')?;
    let ip: Option<IpAddr> = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok();
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        return Some(format!(
            "{addr} means every interface, which is no address that others can reach"
        ));
    }
    (port == "0").then(|| format!("{addr} has port 0, which is no port that others can reach"))
}
