//! `halite` as the version after this one: what tests of upgrades run beside the program itself.

use std::process::ExitCode;

use halite::cluster::Levels;

fn main() -> ExitCode {
    halite::cli::main_with(Levels::NEXT)
}
