use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::yaml::{Node, NodeKind};
use super::*;

const SAMPLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/halite.sample.yml"
));

/// A file with `text` that lives as long as the value.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_file(text: &str) -> Result<Loaded, ConfigError> {
    from_all(text, &[], &[])
}

fn from_all(
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Loaded, ConfigError> {
    let file = file(text);
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let flags = flags
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    Config::load(&Sources {
        file: Some(file.path().to_owned()),
        env,
        flags,
        expand_env: true,
    })
}

/// The problems of `text`, each with its line instead of the file's random name.
fn problems(text: &str) -> Vec<String> {
    let error = from_file(text).expect_err("the file is faulty");
    let line = |problem: &Problem| match problem.origin {
        Origin::File { line, .. } => format!("{line}: "),
        _ => String::new(),
    };
    let shown =
        |problem: Problem| format!("{}{}", line(&problem), problem.clone().at(Origin::Default));
    error.problems.into_iter().map(shown).collect()
}

#[test]
fn defaults_are_a_valid_single_node() {
    let config = Config::default();
    assert_eq!(config.validate(), []);
    assert_eq!(
        (config.node_id, config.name.as_str(), config.listen.as_str()),
        (1, "node-1", "127.0.0.1:7420")
    );
    assert_eq!(config.advertise, "127.0.0.1:7420");
    assert_eq!(config.election_timeout, Duration::from_millis(400));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(
        config.first_members(),
        [MemberConfig {
            id: 1,
            addr: "127.0.0.1:7420".to_owned()
        }]
    );
    assert_eq!(config.replicas_of("app"), []);
}

#[test]
fn an_empty_file_gives_the_defaults() {
    for text in ["", "# nothing\n", "limits:\n"] {
        assert_eq!(from_file(text).unwrap().config, Config::default());
    }
}

#[test]
fn flags_go_before_environment_before_file() {
    let text = "name: file\ndata-dir: /file\nlog:\n  level: warn\nnode-id: 3\n";
    let env = [
        ("HALITE_NAME", "env"),
        ("HALITE_DATA_DIR", "/env"),
        ("HALITE_LOG_CACHE", ""),
    ];
    let loaded = from_all(text, &env, &[("name", "flag")]).unwrap();
    assert_eq!(loaded.config.name, "flag");
    assert_eq!(loaded.config.data_dir, PathBuf::from("/env"));
    assert_eq!(loaded.config.log.level, LogLevel::Warn);
    assert_eq!(loaded.config.node_id, 3);
    assert_eq!(loaded.origins["name"], Origin::Flag("name".to_owned()));
    assert_eq!(
        loaded.origins["data-dir"],
        Origin::Env("HALITE_DATA_DIR".to_owned())
    );
    assert!(matches!(
        loaded.origins["log.level"],
        Origin::File { line: 4, .. }
    ));
    assert_eq!(
        loaded.origins["log-cache"],
        Origin::Default,
        "an empty variable is none"
    );
}

#[test]
fn lists_replace_each_other_as_a_whole() {
    let text = "dbs: [{ name: a }]\ncluster: { initial-members: [{ id: 1, addr: 'a:1' }] }\n";
    let env = [
        ("HALITE_DBS", "b, c"),
        ("HALITE_INITIAL_MEMBERS", "1=x:7420, 2=y:7420"),
    ];
    let config = from_all(text, &env, &[]).unwrap().config;
    let names: Vec<_> = config.dbs.iter().map(|db| db.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(config.cluster.initial_members.len(), 2);
    assert_eq!(config.advertise, "x:7420", "this node's own entry");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_name_at_each_depth() {
    let text = "nodeid: 1\nclustr: {}\ncluster:\n  initial_members: []\n  scrub-interval: 1h\ncheckpoint:\n  walsize: 1MiB\n\
                wal-size: 1MiB\nlog:\n  colour: red\ndbs:\n  - nmae: app\n    replica:\n      uri: file:///x\n\
                log.level: info\n";
    assert_eq!(
        problems(text),
        [
            "1: unknown key `nodeid`; did you mean `node-id`?",
            "2: unknown key `clustr`; did you mean `cluster`?",
            "4: unknown key `initial_members` in `cluster`; did you mean `initial-members`?",
            "5: unknown key `scrub-interval` in `cluster`; `scrub-interval` stands outside of all sections",
            "7: unknown key `walsize` in `checkpoint`; did you mean `wal-size`?",
            "8: unknown key `wal-size`; did you mean `checkpoint.wal-size`?",
            "10: unknown key `colour` in `log`",
            "15: unknown key `log.level`; write it as `level` in the section `log`",
            "12: dbs: unknown key `nmae` in an item; did you mean `name`?",
            "12: dbs: `name` is missing",
            "14: dbs: unknown key `uri` in an item; did you mean `url`?",
            "14: dbs: `url` is missing",
        ]
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "node-id: one\nlisten: nowhere\nelection-timeout: 100ms\nlog-cache: 64Mb?\ncluster:\n  join: yes\n\
                dbs:\n  - { name: ../app, page-size: 1000 }\n  - { name: b, page-size: many }\n  - { name: b }\n\
                archive: { url: /backup }\nlimits: { max-sessions: 0 }\nlog: { level: loud, format: [a] }\n";
    let env = [("HALITE_TRANSACTION_TIMEOUT", "5")];
    let error = from_all(text, &env, &[("heartbeat-interval", "1h")]).expect_err("faulty");
    let all = error.to_string();
    for words in [
        "node-id: `one` is not a whole number",
        "listen: `nowhere` has no port",
        "election-timeout: has to be at least three heartbeats (3h)",
        "--heartbeat-interval: heartbeat-interval: 1h is not between 5ms and 10s",
        "log-cache: `64Mb?` is not a size",
        "cluster.join: `yes` is neither true nor false",
        "dbs: `../app` cannot name a database",
        "dbs: database `../app`: page-size 1000 is not a power of two",
        "dbs: page-size: `many` is not a whole number",
        "dbs: database `b` is given twice",
        "archive.url: `/backup` has no scheme (did you mean `file:///backup`?)",
        "limits.max-sessions: has to be 1 or more",
        "log.level: `loud` is not one of error, warn, info, debug, trace",
        "log.format: is a list instead of a single value",
        "HALITE_TRANSACTION_TIMEOUT: transaction-timeout: `5` has no unit (did you mean `5s` or `5ms`?)",
    ] {
        assert!(all.contains(words), "missing: {words}\n{all}");
    }
    assert!(all.starts_with(&format!(
        "the configuration has {} problems\n",
        error.problems.len()
    )));
    assert_eq!(error.problems.len(), 15, "{all}");
}

#[test]
fn a_cluster_has_to_make_sense() {
    let cases = [
        (
            "cluster: { initial-members: [{ id: 2, addr: 'b:1' }] }",
            "this node (node-id 1) is not among them",
        ),
        (
            "cluster: { initial-members: [{ id: 1, addr: 'a:1' }, { id: 1, addr: 'b:1' }] }",
            "id 1 is given twice",
        ),
        (
            "cluster: { initial-members: [{ id: 1, addr: 'a:1' }, { id: 2, addr: 'a:1' }] }",
            "a:1 is given twice",
        ),
        (
            "cluster: { initial-members: [{ id: 1, addr: 'a:1' }], join: true }",
            "either founds a cluster or joins one",
        ),
        (
            "cluster: { initial-members: [{ id: 1, addr: '0.0.0.0:1' }] }",
            "every interface",
        ),
        (
            "advertise: c:1\ncluster: { initial-members: [{ id: 1, addr: 'a:1' }] }",
            "differs from this node's entry a:1",
        ),
        (
            "listen: 0.0.0.0:7420",
            "advertise: has to be set: as listen, 0.0.0.0:7420 means every interface",
        ),
        ("listen: '[::]:7420'", "advertise: has to be set"),
        ("listen: 127.0.0.1:0", "port 0"),
        ("advertise: 'http://x:1'", "is not HOST:PORT"),
        (
            "cluster: { initial-members: [a] }",
            "an item is a single value instead of the keys `id`, `addr`",
        ),
        (
            "cluster: [a]",
            "cluster: is a list instead of a section with keys",
        ),
        ("cluster: { name: '' }", "cluster.name: is empty"),
        ("name:", "name: has no value"),
    ];
    for (text, words) in cases {
        let found = problems(text);
        assert!(
            found.iter().any(|problem| problem.contains(words)),
            "{text}: {found:?}"
        );
        assert_eq!(found.len(), 1, "one cause, one problem: {text}: {found:?}");
    }
    let joining = from_file("cluster: { join: true }\nnode-id: 4\n")
        .unwrap()
        .config;
    assert_eq!(joining.first_members(), []);
}

#[test]
fn databases_are_archived_where_the_file_says() {
    let text = "archive: { url: 'file:///backup/', sync-interval: 2s }\ndbs:\n  - a\n  - name: b\n    replica: { url: file:///b }\n\
                \n  - name: c\n    replicas: [ file:///c1, { url: file:///c2, sync-interval: 9s } ]\n  - { name: d, replicas: [] }\n";
    let config = from_file(text).unwrap().config;
    let replica = |url: &str, secs: u64| ReplicaConfig {
        url: url.to_owned(),
        sync_interval: Duration::from_secs(secs),
    };
    assert_eq!(config.replicas_of("a"), [replica("file:///backup/a", 2)]);
    assert_eq!(config.replicas_of("b"), [replica("file:///b", 2)]);
    assert_eq!(
        config.replicas_of("c"),
        [replica("file:///c1", 2), replica("file:///c2", 9)]
    );
    assert_eq!(config.replicas_of("d"), []);
    assert_eq!(
        config.replicas_of("created-later"),
        [replica("file:///backup/created-later", 2)]
    );
}

#[test]
fn two_databases_cannot_share_a_place() {
    let text = "archive: { url: file:///backup }\ndbs:\n  - a\n  - { name: b, replica: file:///backup/a/ }\n";
    assert_eq!(
        problems(text),
        ["2: dbs: databases `a` and `b` have the same replica file:///backup/a"]
    );
    let both = "dbs: [{ name: a, replica: file:///x, replicas: [file:///y] }]";
    assert_eq!(
        problems(both),
        ["1: dbs: `replica` and `replicas` are both given; use one"]
    );
}

#[test]
fn levels_of_archives_are_intervals_that_grow() {
    let secs = Duration::from_secs;
    let levels = |text: &str| from_file(text).unwrap().config.archive_schedule.levels;
    let default = [secs(30), secs(300), secs(3_600)];
    assert_eq!(levels(""), default);
    assert_eq!(levels("archive: { levels: [] }\n"), []);
    assert_eq!(
        levels("archive:\n  levels:\n    - interval: 10s\n    - 2m\n"),
        [secs(10), secs(120)]
    );
    let env = [("HALITE_ARCHIVE_LEVELS", "1m,10m")];
    let config = from_all("", &env, &[]).unwrap().config;
    assert_eq!(config.archive_schedule.levels, [secs(60), secs(600)]);

    for (text, expected) in [
        (
            "archive: { levels: [5m, 30s] }\n",
            "archive.levels: level 2 (30s) has to be longer than level 1 (5m), of whose files it is made",
        ),
        (
            "archive: { levels: [1s, 2s, 3s, 4s, 5s, 6s, 7s, 8s, 9s] }\n",
            "archive.levels: are 9; there can be 8 at most",
        ),
        (
            "archive: { levels: [{ every: 30s }] }\n",
            "archive.levels: unknown key `every` in an item; known are `interval`",
        ),
        (
            "archive: { levels: [0s] }\n",
            "archive.levels: level 1: 0s is not between 100ms and 87840h",
        ),
        (
            "archive: { snapshot-interval: 30m }\n",
            "archive.snapshot-interval: 30m is shorter than the highest level (1h)",
        ),
        (
            "archive: { l0-retention: never }\n",
            "archive.l0-retention: `never` is not a duration (examples: 500ms, 1s, 1h30m)",
        ),
    ] {
        let found = problems(text);
        assert!(
            found.iter().any(|found| found.ends_with(expected)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn variables_are_expanded_unless_told_otherwise() {
    let text = "name: ${WHO}-1\ndata-dir: $HOME_OF_HALITE\n";
    let env = [("WHO", "db"), ("HOME_OF_HALITE", "/srv")];
    let config = from_all(text, &env, &[]).unwrap().config;
    assert_eq!(
        (config.name.as_str(), config.data_dir),
        ("db-1", PathBuf::from("/srv"))
    );
    let file = file(text);
    let plain = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(plain.config.name, "${WHO}-1");
    assert_eq!(
        problems("name: $NOT_SET_ANYWHERE\n"),
        ["1: $NOT_SET_ANYWHERE is not set"]
    );
}

#[test]
fn mistyped_variables_are_warned_of_and_foreign_ones_left_alone() {
    let env = [
        ("HALITE_NODEID", "2"),
        ("HALITE_PORT", "tcp://10.0.0.1:7420"),
        ("HALITE_ADDR", "x"),
        ("HALITE_SERVICE_HOST", "y"),
    ];
    let warnings = from_all("", &env, &[]).unwrap().warnings;
    assert_eq!(
        warnings,
        ["environment variable HALITE_NODEID is not known; did you mean HALITE_NODE_ID?"]
    );
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources {
        file: Some(PathBuf::from("/nowhere/halite.yml")),
        ..Sources::default()
    };
    let error = Config::load(&sources).unwrap_err().to_string();
    assert!(
        error.starts_with("configuration: /nowhere/halite.yml: "),
        "{error}"
    );
}

#[test]
fn the_sample_loads_and_shows_the_defaults() {
    let config = from_file(SAMPLE).unwrap().config;
    let defaults = Config::default();
    assert_eq!(config.dbs.len(), 3);
    assert_eq!(config.cluster.initial_members.len(), 3);
    let sample_values = Config {
        data_dir: config.data_dir.clone(),
        ..defaults.clone()
    };
    let with_lists = Config {
        dbs: config.dbs.clone(),
        archive: config.archive.clone(),
        cluster: ClusterConfig {
            initial_members: config.cluster.initial_members.clone(),
            ..defaults.cluster
        },
        ..sample_values
    };
    assert_eq!(
        config, with_lists,
        "apart from lists, the archive and the folder, the sample shows the defaults"
    );
}

#[test]
fn the_sample_documents_every_setting_flag_and_variable() {
    let root = yaml::parse(SAMPLE).unwrap();
    for setting in SETTINGS {
        assert!(
            lookup(&root, setting.key),
            "{} is missing from deploy/halite.sample.yml",
            setting.key
        );
        let (env, flag) = (setting.env(), format!("--{}", setting.flag));
        let documented = |word: &str| {
            SAMPLE
                .split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c)))
                .any(|w| w == word)
        };
        assert!(
            documented(&env) && documented(&flag),
            "{env} or {flag} is missing from deploy/halite.sample.yml"
        );
    }
}

fn lookup(node: &Node, key: &str) -> bool {
    let (first, rest) = key
        .split_once('.')
        .map_or((key, None), |(first, rest)| (first, Some(rest)));
    let NodeKind::Mapping(entries) = &node.kind else {
        return false;
    };
    let found = entries.iter().find(|entry| entry.key == first);
    found.is_some_and(|entry| rest.is_none_or(|rest| lookup(&entry.value, rest)))
}

#[test]
fn the_printed_configuration_loads_as_itself() {
    let odd = "name: 'a: b #c'\ndata-dir: '- x'\ndbs: [a, { name: b, replicas: [] }]\narchive: { levels: [] }\n";
    for text in [SAMPLE, "", odd] {
        let loaded = from_file(text).unwrap();
        let printed = loaded.to_yaml();
        let again = from_file(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.config, loaded.config, "{printed}");
    }
}

#[test]
fn the_printed_configuration_says_where_values_come_from() {
    let printed = from_all(
        "log: { level: warn }\n",
        &[("HALITE_NAME", "n")],
        &[("listen", "127.0.0.1:1")],
    )
    .unwrap()
    .to_yaml();
    let origin = |key: &str| {
        let line = printed
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{key}: ")))
            .unwrap();
        line.split_once(" # ").unwrap().1.to_owned()
    };
    assert_eq!(origin("node-id"), "default");
    assert_eq!(origin("name"), "HALITE_NAME");
    assert_eq!(origin("listen"), "--listen");
    assert!(origin("level").ends_with(":1"));
}

#[test]
fn secrets_are_not_printed() {
    let config = Config {
        archive: Some(ArchiveConfig {
            url: "sftp://me:hush@h/x".to_owned(),
            sync_interval: Duration::from_secs(1),
        }),
        ..Config::default()
    };
    let printed = Loaded {
        config,
        origins: BTreeMap::new(),
        warnings: Vec::new(),
    }
    .to_yaml();
    assert!(
        printed.contains("sftp://me:***@h/x") && !printed.contains("hush"),
        "{printed}"
    );
}
