//! The effective configuration as YAML, with where each value came from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::Origin;
use super::replica_url::shown;
use super::setting::{SETTINGS, Setting};
use super::{Config, DatabaseConfig, MemberConfig, ReplicaConfig, format_duration};

/// A value as lines of YAML.
enum Printed {
    /// There is none.
    Absent,
    One(String),
    /// Below the key, indented by the caller.
    Lines(Vec<String>),
}

/// Comments begin in this column where there is room.
const COMMENT_COLUMN: usize = 40;

pub(crate) fn to_yaml(config: &Config, origins: &BTreeMap<&'static str, Origin>) -> String {
    let mut out =
        String::from("# Effective configuration: defaults < file < environment < flags\n");
    let mut section = None;
    for setting in SETTINGS {
        let origin = origins.get(setting.key).cloned().unwrap_or_default();
        let printed = value(config, setting);
        if matches!(printed, Printed::Absent) {
            continue;
        }
        if setting.section() != section {
            section = setting.section();
            if let Some(name) = section {
                out.push_str(&format!("{name}:\n"));
            }
        }
        let indent = if section.is_some() { "  " } else { "" };
        let key = setting.leaf();
        match printed {
            Printed::Absent => {}
            Printed::One(text) => {
                out.push_str(&commented(&format!("{indent}{key}: {text}"), &origin))
            }
            Printed::Lines(lines) => {
                out.push_str(&commented(&format!("{indent}{key}:"), &origin));
                lines
                    .iter()
                    .for_each(|line| out.push_str(&format!("{indent}  {line}\n")));
            }
        }
    }
    out
}

fn commented(line: &str, origin: &Origin) -> String {
    format!("{line:<COMMENT_COLUMN$} # {origin}\n")
}

fn value(config: &Config, setting: &Setting) -> Printed {
    let one = |text: String| Printed::One(quoted(&text));
    match setting.key {
        "node-id" => one(config.node_id.to_string()),
        "name" => one(config.name.clone()),
        "data-dir" => one(config.data_dir.display().to_string()),
        "listen" => one(config.listen.clone()),
        "advertise" => one(config.advertise.clone()),
        "cluster.name" => one(config.cluster.name.clone()),
        "cluster.initial-members" => lines(config.cluster.initial_members.iter().map(member)),
        "cluster.join" => one(config.cluster.join.to_string()),
        "election-timeout" => one(format_duration(config.election_timeout)),
        "heartbeat-interval" => one(format_duration(config.heartbeat_interval)),
        "dbs" => lines(config.dbs.iter().map(database)),
        "archive.url" => config
            .archive
            .as_ref()
            .map_or(Printed::Absent, |archive| one(shown(&archive.url))),
        "archive.sync-interval" => config.archive.as_ref().map_or(Printed::Absent, |archive| {
            one(format_duration(archive.sync_interval))
        }),
        "archive.levels" => levels(&config.archive_schedule.levels),
        "archive.l0-retention" => one(format_duration(
            config.archive_schedule.level_zero_retention,
        )),
        "archive.snapshot-interval" => {
            one(format_duration(config.archive_schedule.snapshot_interval))
        }
        "archive.snapshot-retention" => {
            one(format_duration(config.archive_schedule.snapshot_retention))
        }
        "log.level" => one(config.log.level.to_string()),
        "log.format" => one(config.log.format.to_string()),
        "log-cache" => one(config.log_cache.to_string()),
        "checkpoint.wal-size" => one(config.checkpoint.wal_size.to_string()),
        "scrub-interval" => one(format_duration(config.scrub_interval)),
        "transaction-timeout" => one(format_duration(config.transaction_timeout)),
        "limits.max-sessions" => one(config.limits.max_sessions.to_string()),
        "limits.max-inflight" => one(config.limits.max_inflight.to_string()),
        "limits.max-message" => one(config.limits.max_message.to_string()),
        key => unreachable!("setting {key} is not printed"),
    }
}

fn lines(items: impl Iterator<Item = String>) -> Printed {
    let lines: Vec<String> = items.map(|item| format!("- {item}")).collect();
    if lines.is_empty() {
        Printed::Absent
    } else {
        Printed::Lines(lines)
    }
}

/// No levels are not the default ones.
fn levels(levels: &[Duration]) -> Printed {
    if levels.is_empty() {
        return Printed::One("[]".to_owned());
    }
    let level = |interval: &Duration| format!("{{ interval: {} }}", format_duration(*interval));
    lines(levels.iter().map(level))
}

fn member(member: &MemberConfig) -> String {
    format!("{{ id: {}, addr: {} }}", member.id, quoted(&member.addr))
}

fn database(db: &DatabaseConfig) -> String {
    let replicas = db.replicas.as_ref().map(|replicas| {
        let items: Vec<String> = replicas.iter().map(replica).collect();
        format!(", replicas: [{}]", items.join(", "))
    });
    format!(
        "{{ name: {}, page-size: {}{} }}",
        quoted(&db.name),
        db.page_size,
        replicas.unwrap_or_default()
    )
}

fn replica(replica: &ReplicaConfig) -> String {
    format!(
        "{{ url: {}, sync-interval: {} }}",
        quoted(&shown(&replica.url)),
        format_duration(replica.sync_interval)
    )
}

/// The text as a YAML scalar: as it is where nothing in it means anything to YAML, quoted otherwise.
fn quoted(text: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '+');
    let starts_well =
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'));
    if starts_well && !text.ends_with(':') && text.chars().all(plain) {
        return text.to_owned();
    }
    // JSON strings are YAML; `$` would be taken for a variable when the file is loaded again, and there is no escape for it.
    serde_json::Value::from(text).to_string()
}
