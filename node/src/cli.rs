//! The command line: one binary, a command for the node and one for each thing people do with a cluster.
//!
//! Owns arguments, output, exit codes and signals. Talks to nodes through `halite-client` only, like any application; `serve`
//! hands the configuration to [`crate::server`], `restore` needs no node at all. Called by `main.rs`.
//!
//! Exit codes: 0 done, 1 failed (or not well, for `status`), 2 called wrongly. Results go to standard output, for people or, with
//! `--json`, for programs; everything else goes to standard error.

mod argv;
mod bench;
mod database;
mod demo;
mod error;
mod export;
mod import;
mod member;
mod one_node;
mod output;
mod restore;
mod serve;
mod set_aside;
mod signals;
mod sql;
mod status;
mod text_table;
mod version;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use halite_client::Client;

pub use error::{CliError, Outcome};

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
        default_value = "127.0.0.1:7000"
    )]
    addr: Vec<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Log what happens to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
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
    #[command(subcommand)]
    Member(member::MemberCommand),
    Transfer(member::TransferArgs),
    SetAside(set_aside::SetAsideArgs),
    Demo(demo::DemoArgs),
    Bench(bench::BenchArgs),
    /// Print the version; with --verbose, what it is made of
    Version,
}

/// Work left on other threads when a command is done is waited for this long.
const LEFTOVER_WAIT: Duration = Duration::from_millis(200);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let argv = argv::normalise(std::env::args_os());
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(usage) => {
            // Nobody left to read it is no reason to fail in another way.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    // The other half of the cores is for lanes, readers and the log's writer; more workers only hand tasks to and fro.
    let workers = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(CliError::io("cannot start", &error))),
    };
    let done = runtime.block_on(cli.run());
    runtime.shutdown_timeout(LEFTOVER_WAIT);
    exit_code(done)
}

fn exit_code(done: Result<Outcome, CliError>) -> ExitCode {
    match done {
        Ok(Outcome::Good) | Err(CliError::OutputClosed) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) | Err(CliError::Interrupted) => ExitCode::FAILURE,
        Err(CliError::Failed { message, help }) => {
            output::report(&message, help.as_deref());
            ExitCode::FAILURE
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
        let endless = matches!(&command, CliCommand::Status(args) if args.watch);
        match interruptible(run_command(command, &global)).await {
            // Ctrl-C is how it is meant to end.
            Err(CliError::Interrupted) if endless => Ok(Outcome::Good),
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
        CliCommand::Member(command) => member::run(command, global).await,
        CliCommand::Transfer(args) => member::transfer(args, global).await,
        CliCommand::SetAside(args) => set_aside::run(args, global).await,
        CliCommand::Bench(args) => bench::run(args, global).await,
        CliCommand::Demo(args) => demo::run(args, global).await,
        CliCommand::Version => version::run(global),
    }
}

/// Runs `work` until it is done or Ctrl-C comes; then it is dropped, and cleans up by that.
async fn interruptible(
    work: impl Future<Output = Result<Outcome, CliError>>,
) -> Result<Outcome, CliError> {
    let done = signals::unless_interrupted(work).await;
    let done =
        done.map_err(|error: io::Error| CliError::io("cannot listen for signals", &error))?;
    done.unwrap_or(Err(CliError::Interrupted))
}

impl GlobalArgs {
    async fn connect(&self) -> Result<Client, CliError> {
        Ok(Client::connect(
            self.addr
                .iter()
                .map(|addr| addr.trim())
                .filter(|addr| !addr.is_empty()),
        )
        .await?)
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
