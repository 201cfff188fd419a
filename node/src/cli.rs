//! The command line: one binary, a command for the node and one for each thing people do with a cluster.
//!
//! Owns arguments, output, exit codes and signals. Talks to nodes through `halite-client` only, like any application; `serve`
//! hands the configuration to [`crate::server`], `restore` needs no node at all. Called by `main.rs`.
//!
//! Exit codes: 0 done, 1 failed (or not well, for `status`), 2 called wrongly, 3 the wrong version for its cluster (`serve`), 130 Ctrl-C and 143
//! SIGTERM, as shells have it. Results go to standard output, for people or, with `--json`, for programs; everything else goes to standard error.

mod argv;
mod bench;
mod database;
mod demo;
mod dev;
mod error;
mod export;
mod held_file;
mod import;
mod local_command;
mod ltx;
mod manual;
mod member;
mod one_node;
mod output;
mod own_program;
mod restore;
mod serve;
mod set_aside;
mod signals;
mod sql;
mod sqlite_code;
mod status;
mod text_table;
mod upgrade;
mod version;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use halite_client::Client;

pub use error::{CliError, Outcome};
pub use signals::StopSignal;

use crate::cluster::Levels;
use crate::config::{LogConfig, LogFormat, LogLevel};

/// Highly available SQLite.
#[derive(Debug, Parser)]
#[command(
    name = "halite",
    version,
    propagate_version = true,
    max_term_width = 110
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: CliCommand,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Addresses of nodes; one that answers is enough
    #[arg(
        long,
        global = true,
        env = "HALITE_ADDR",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7420"
    )]
    addr: Vec<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Log what happens to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// What the program reads and writes.
    #[arg(skip = Levels::OURS)]
    levels: Levels,
    /// A node was reached: from here on something may have been sent.
    #[arg(skip)]
    reached: AtomicBool,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Serve(Box<serve::ServeArgs>),
    Sql(sql::SqlArgs),
    Status(status::StatusArgs),
    #[command(subcommand)]
    Db(database::DbCommand),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Restore(restore::RestoreArgs),
    Ltx(ltx::LtxArgs),
    #[command(subcommand)]
    Member(member::MemberCommand),
    Transfer(member::TransferArgs),
    SetAside(set_aside::SetAsideArgs),
    #[command(subcommand)]
    Upgrade(upgrade::UpgradeCommand),
    Dev(dev::DevArgs),
    Demo(demo::DemoArgs),
    Bench(bench::BenchArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
    /// Print the version; with --verbose, what it is made of
    Version,
}

impl CliCommand {
    /// Asks a cluster for something that goes on there when this process is gone.
    fn changes(&self) -> bool {
        match self {
            Self::Import(_) | Self::Member(_) | Self::Transfer(_) | Self::Upgrade(_) => true,
            Self::Db(command) => command.changes(),
            _ => false,
        }
    }
}

/// Work left on other threads when a command is done is waited for this long.
const LEFTOVER_WAIT: Duration = Duration::from_millis(200);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    main_with(Levels::OURS)
}

/// The same as a program of these levels: a test of upgrades is one of the next version.
pub fn main_with(levels: Levels) -> ExitCode {
    let argv = argv::normalise(std::env::args_os());
    let mut cli = match Cli::read(argv) {
        Ok(cli) => cli,
        Err(usage) => {
            // Nobody left to read it is no reason to fail in another way.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    cli.global.levels = levels;
    let json = cli.global.json;
    // The other half of the cores is for lanes, readers and the log's writer; more workers only hand tasks to and fro.
    let workers = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(CliError::io("cannot start", &error)), json),
    };
    let done = runtime.block_on(cli.run());
    runtime.shutdown_timeout(LEFTOVER_WAIT);
    exit_code(done, json)
}

/// Tells what went wrong, to programs if `json`.
fn exit_code(done: Result<Outcome, CliError>, json: bool) -> ExitCode {
    match done {
        Ok(Outcome::Good) | Err(CliError::OutputClosed) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::FAILURE,
        Err(CliError::Interrupted { signal, told }) => {
            if let Some(told) = told {
                told.report(json);
            }
            ExitCode::from(signal.exit_code())
        }
        Err(error @ CliError::Failed { .. }) => {
            error.report(json);
            ExitCode::FAILURE
        }
        Err(error @ CliError::Unfit { .. }) => {
            error.report(json);
            ExitCode::from(3)
        }
    }
}

impl Cli {
    async fn run(self) -> Result<Outcome, CliError> {
        let Self { global, command } = self;
        if let CliCommand::Serve(args) = command {
            return serve::run(*args, &global).await;
        }
        global.log_if_verbose()?;
        if let CliCommand::Sql(args) = command {
            // The prompt has its own use for Ctrl-C.
            return sql::run(args, &global).await;
        }
        if let CliCommand::Dev(args) = command {
            // Ctrl-C stops its nodes in order.
            return dev::run(args, &global).await;
        }
        let endless = matches!(&command, CliCommand::Status(args) if args.watch);
        let changes = command.changes();
        match interruptible(run_command(command, &global)).await {
            Err(CliError::Interrupted { signal, told: None }) if changes => {
                Err(CliError::Interrupted {
                    signal,
                    told: Some(Box::new(global.change_interrupted())),
                })
            }
            // Ctrl-C is how it is meant to end.
            Err(CliError::Interrupted { .. }) if endless => Ok(Outcome::Good),
            done => done,
        }
    }
}

async fn run_command(command: CliCommand, global: &GlobalArgs) -> Result<Outcome, CliError> {
    match command {
        CliCommand::Serve(args) => serve::run(*args, global).await,
        CliCommand::Sql(args) => sql::run(args, global).await,
        CliCommand::Status(args) => status::run(args, global).await,
        CliCommand::Db(command) => database::run(command, global).await,
        CliCommand::Import(args) => import::run(args, global).await,
        CliCommand::Export(args) => export::run(args, global).await,
        CliCommand::Restore(args) => restore::run(args, global).await,
        CliCommand::Ltx(args) => ltx::run(args, global).await,
        CliCommand::Member(command) => member::run(command, global).await,
        CliCommand::Transfer(args) => member::transfer(args, global).await,
        CliCommand::SetAside(args) => set_aside::run(args, global).await,
        CliCommand::Upgrade(command) => upgrade::run(command, global).await,
        CliCommand::Bench(args) => bench::run(args, global).await,
        CliCommand::Dev(args) => dev::run(args, global).await,
        CliCommand::Demo(args) => demo::run(args, global).await,
        CliCommand::Completions(args) => manual::completions(args),
        CliCommand::Man(args) => manual::man(args),
        CliCommand::Version => version::run(global),
    }
}

/// Runs `work` until it is done or Ctrl-C comes; then it is dropped, and cleans up by that.
async fn interruptible(
    work: impl Future<Output = Result<Outcome, CliError>>,
) -> Result<Outcome, CliError> {
    unless_interrupted(work)
        .await?
        .unwrap_or_else(|signal| Err(CliError::Interrupted { signal, told: None }))
}

/// The same, for who has something to say about the signal.
async fn unless_interrupted<T>(
    work: impl Future<Output = T>,
) -> Result<Result<T, StopSignal>, CliError> {
    let done = signals::unless_interrupted(work).await;
    done.map_err(|error: io::Error| CliError::io("cannot listen for signals", &error))
}

impl GlobalArgs {
    async fn connect(&self) -> Result<Client, CliError> {
        let addrs = self.addr.iter().map(|addr| addr.trim());
        let client = Client::builder(addrs.filter(|addr| !addr.is_empty()))
            // Who names a node wants to know what that node has.
            .prefer_given_addresses(true)
            .connect()
            .await?;
        self.reached.store(true, Ordering::Relaxed);
        Ok(client)
    }

    /// What is true of a command that changes something, when a signal ends it.
    fn change_interrupted(&self) -> CliError {
        if !self.reached.load(Ordering::Relaxed) {
            return CliError::new("interrupted: no node was reached, nothing was sent");
        }
        CliError::new("interrupted: what was under way may or may not be carried out")
            .help("look at what is there before you repeat it")
    }

    /// Client commands are silent about what they do unless asked: their errors say it all.
    fn log_if_verbose(&self) -> Result<(), CliError> {
        let asked = std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty());
        let level = match self.verbose {
            0 if !asked => return Ok(()),
            0 | 1 => LogLevel::Info,
            2 => LogLevel::Debug,
            _ => LogLevel::Trace,
        };
        let log = LogConfig {
            level,
            format: LogFormat::Text,
        };
        crate::telemetry::init(&log).map_err(|error| CliError::new(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
