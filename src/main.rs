//! The `firstbad` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    firstbad::cli::run(std::env::args_os())
}
