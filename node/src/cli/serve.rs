//! `halite serve`: runs a node.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use rustix::process::{Pid, getppid};

use super::error::{CliError, Outcome};
use super::output::{print, print_json, remark};
use super::{GlobalArgs, signals};
use crate::cluster::StartError;
use crate::config::{Config, Loaded, SETTINGS, Setting, Sources};
use crate::server::{self, ServeError, ServerOptions};
use crate::telemetry;

/// Read if no file is named and it is there.
const CONFIG_DEFAULT: &str = "/etc/halite.yml";

/// How often a node looks whether the program that has started it is there.
const LOOK_FOR_PARENT: Duration = Duration::from_millis(250);

/// Run a node.
///
/// Settings come from defaults, then the file, then the environment, then flags; the later goes before the earlier.
/// SIGINT or SIGTERM stops the node in order, a second signal at once.
/// Exit code 3: this version is too old, or too new, for the node's cluster; starting it again does not help.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file [default: /etc/halite.yml if it is there]
    #[arg(short, long, env = "HALITE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave $VAR and ${VAR} in the file as they are
    #[arg(long)]
    no_expand_env: bool,
    /// Print the effective configuration, with where each value came from, and exit
    #[arg(long, conflicts_with = "check")]
    print_config: bool,
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
    /// Stop when the program that has started this one is gone: nobody else would
    #[arg(long, hide = true)]
    end_with_parent: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

/// One flag for each row of the table of settings, by the key of the setting.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SettingFlags(BTreeMap<&'static str, String>);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command
            .next_help_heading("Settings")
            .args(SETTINGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" | "false" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let help = format!("{}{default} [env: {}]", setting.help, setting.env());
    let arg = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value_name)
        .help(help)
        .action(ArgAction::Set);
    if setting.is_switch() {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            matches
                .get_one::<String>(setting.flag)
                .map(|text| (setting.key, text.clone()))
        };
        Ok(Self(SETTINGS.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

impl ServeArgs {
    fn sources(
        &self,
        global: &GlobalArgs,
        env: BTreeMap<String, String>,
        default_file: &Path,
    ) -> Sources {
        let file = self
            .config
            .clone()
            .or_else(|| default_file.is_file().then(|| default_file.to_owned()));
        let mut flags = self.settings.0.clone();
        let level = match global.verbose {
            0 => None,
            1 => Some("debug"),
            _ => Some("trace"),
        };
        if let Some(level) = level {
            flags.entry("log.level").or_insert_with(|| level.to_owned());
        }
        Sources {
            file,
            env,
            flags,
            expand_env: !self.no_expand_env,
        }
    }
}

pub(crate) async fn run(args: ServeArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = Config::load(&args.sources(global, env.collect(), Path::new(CONFIG_DEFAULT)))?;
    if args.print_config || args.check {
        loaded
            .warnings
            .iter()
            .for_each(|warning| remark(&format!("warning: {warning}")));
        return if args.print_config {
            print(&loaded.to_yaml())
        } else {
            say_good(&args, global)
        }
        .map(|()| Outcome::Good);
    }
    let Loaded {
        config, warnings, ..
    } = loaded;
    telemetry::init(&config.log).map_err(|error| CliError::new(error.to_string()))?;
    warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    let (ends_with_parent, parent) = (args.end_with_parent, getppid());
    let asked = signals::stop_requested()
        .map_err(|error| CliError::io("cannot listen for signals", &error))?;
    let stop = async move {
        tokio::select! {
            () = asked => {}
            () = gone(parent), if ends_with_parent => tracing::info!("the program that has started this node is gone: stopping"),
        }
    };
    let served = async {
        let mut options = ServerOptions::from_config(&config)?;
        options.cluster.levels = global.levels;
        server::run(options, stop).await
    };
    served.await.map_err(|error| failed(&error))?;
    Ok(Outcome::Good)
}

/// Ready when another process has taken the place of the parent.
async fn gone(parent: Option<Pid>) {
    while getppid() == parent {
        tokio::time::sleep(LOOK_FOR_PARENT).await;
    }
}

fn failed(error: &ServeError) -> CliError {
    let message = error.to_string();
    match error {
        ServeError::Unfit(_) | ServeError::Start(StartError::Unfit { .. }) => {
            CliError::Unfit { message }
        }
        _ => CliError::new(message),
    }
}

fn say_good(args: &ServeArgs, global: &GlobalArgs) -> Result<(), CliError> {
    if global.json {
        return print_json(&serde_json::json!({ "ok": true, "config": args.config }));
    }
    if std::io::stdout().is_terminal() {
        print("the configuration is good\n")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, CliCommand};
    use clap::Parser;

    fn parsed(line: &str) -> (ServeArgs, GlobalArgs) {
        let cli =
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        match cli.command {
            CliCommand::Serve(args) => (*args, cli.global),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_setting_has_a_flag() {
        for setting in SETTINGS {
            let value = if setting.is_switch() { "true" } else { "x" };
            let (args, _) = parsed(&format!("halite serve --{}={value}", setting.flag));
            assert_eq!(
                args.settings.0.get(setting.key).map(String::as_str),
                Some(value),
                "{}",
                setting.key
            );
        }
    }

    #[test]
    fn switches_may_stand_alone() {
        let (args, _) = parsed("halite serve --join --name n");
        assert_eq!(args.settings.0["cluster.join"], "true");
        assert_eq!(args.settings.0["name"], "n");
        assert_eq!(
            parsed("halite serve --join=false").0.settings.0["cluster.join"],
            "false"
        );
    }

    #[test]
    fn verbose_raises_the_level_unless_it_is_given() {
        let level = |line: &str| {
            let (args, global) = parsed(line);
            args.sources(&global, BTreeMap::new(), Path::new("/nonexistent"))
                .flags
                .get("log.level")
                .cloned()
        };
        assert_eq!(level("halite serve"), None);
        assert_eq!(level("halite -v serve").as_deref(), Some("debug"));
        assert_eq!(level("halite serve -vv").as_deref(), Some("trace"));
        assert_eq!(
            level("halite serve -v --log-level warn").as_deref(),
            Some("warn")
        );
    }

    #[test]
    fn the_default_file_is_read_only_if_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("halite.yml");
        let file = |line: &str| {
            let (args, global) = parsed(line);
            args.sources(&global, BTreeMap::new(), &path).file
        };
        assert_eq!(file("halite serve"), None);
        assert_eq!(
            file("halite serve -c /x.yml"),
            Some(PathBuf::from("/x.yml"))
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(file("halite serve"), Some(path.clone()));
    }
}
