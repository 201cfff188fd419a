//! Where a configuration is read from, and what reading it gave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::decode::decode;
use super::layers::Layers;
use super::problem::{ConfigError, Origin, Problem, system_words};
use super::setting::SETTINGS;
use super::{Config, print};

/// The places that values come from, the weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if there is one. It has to exist.
    pub file: Option<PathBuf>,
    /// The whole environment: settings (`HALITE_*`), and variables that the file may name.
    pub env: BTreeMap<String, String>,
    /// Flags by the key of their setting.
    pub flags: BTreeMap<&'static str, String>,
    /// Whether `$VAR` in the file is replaced.
    pub expand_env: bool,
}

/// A configuration without fault, and where each value of it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// By key, for each row of the table of settings.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What looks wrong and is not certain to be.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The effective configuration as a file that can be loaded again, each value with a comment that says where it came from.
    /// Passwords and keys inside URLs are not shown.
    pub fn to_yaml(&self) -> String {
        print::to_yaml(&self.config, &self.origins)
    }
}

impl Config {
    /// Reads, lays over each other and checks what `sources` give. The error names every problem that was found.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut problems = Vec::new();
        let mut layers = Layers::default();
        if let Some(path) = &sources.file {
            match read(path) {
                Ok(text) => {
                    let variables = sources.expand_env.then_some(&sources.env);
                    layers.add_file(path, &text, variables, &mut problems);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let warnings = layers.add_env(&sources.env);
        layers.add_flags(&sources.flags);
        let config = decode(&layers, &mut problems);
        let unreadable: BTreeSet<String> =
            problems.iter().map(|problem| problem.key.clone()).collect();
        let faults = config
            .validate()
            .into_iter()
            .filter(|problem| !is_consequence(problem, &unreadable));
        problems.extend(faults.map(|problem| {
            let origin = layers.origin(&problem.key);
            problem.at(origin)
        }));
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let origins = SETTINGS
            .iter()
            .map(|setting| (setting.key, layers.origin(setting.key)))
            .collect();
        Ok(Loaded {
            config,
            origins,
            warnings,
        })
    }
}

/// A setting that could not be read stands at its default, and an unreadable item is missing from its list: what follows from
/// that is not another problem. (The databases of `dbs` do not depend on each other.)
fn is_consequence(problem: &Problem, unreadable: &BTreeSet<String>) -> bool {
    let key = problem.key.as_str();
    (key != "dbs" && unreadable.contains(key))
        || (key == "advertise" && unreadable.contains("cluster.initial-members"))
}

/// A configuration is a page of text; what is larger was named by mistake.
const FILE_BYTES_MAX: u64 = 4 << 20;

fn read(path: &Path) -> Result<String, Problem> {
    let problem = |message: String| {
        Problem::new("", message).at(Origin::File {
            path: path.to_owned(),
            line: 0,
        })
    };
    let length_bytes = std::fs::metadata(path)
        .map_err(|error| problem(system_words(&error)))?
        .len();
    if length_bytes > FILE_BYTES_MAX {
        return Err(problem(
            "the file is too large for a configuration".to_owned(),
        ));
    }
    std::fs::read_to_string(path).map_err(|error| problem(system_words(&error)))
}
