//! Programs that are told: started without a shell, with the message as JSON on their standard input, within a time.

use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::SendError;
use crate::config::Secret;

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Runs a program to its end; what it prints is not kept.
///
/// # Errors
/// Where it cannot be started, does not end in time, or does not end well.
pub(super) fn run(words: &[Secret], document: Vec<u8>, limit: Duration) -> Result<(), SendError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(SendError::Setup("no program is named".to_owned()));
    };
    let mut command = Command::new(program.value());
    command
        .args(arguments.iter().map(Secret::value))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| {
        SendError::Setup(format!("the program cannot be started: {}", error.kind()))
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read must not hold us: the thread ends with the pipe.
        let writer = std::thread::Builder::new().name("command".to_owned());
        let _ = writer.spawn(move || stdin.write_all(&document));
    }
    match ended(&mut child, limit) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(SendError::Exit(status.code())),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(SendError::Timeout)
        }
    }
}

fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            _ => return None,
        }
    }
}
