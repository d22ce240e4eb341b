//! A watcher that runs beside a test: what it says is waited for.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) struct Watcher {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Watcher {
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Watcher {
        let mut child = Command::new(env!("CARGO_BIN_EXE_firstbad"))
            .current_dir(directory)
            .arg("watch")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let (to, lines) = channel();
        let out: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("a pipe")),
            Box::new(child.stderr.take().expect("a pipe")),
        ];
        for from in out {
            let to = to.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(from).lines().map_while(Result::ok) {
                    let _ = to.send(line);
                }
            });
        }
        Watcher {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits for a line with all of these texts.
    #[track_caller]
    pub(crate) fn says(&mut self, texts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let left = LONGEST.saturating_sub(begun.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {texts:?}:\n{}", self.said.join("\n"));
            };
            self.said.push(line.clone());
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
        }
    }

    /// Ends it as a service manager does; its exit code and all that it said.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status();
        assert!(killed.is_ok_and(|status| status.success()), "it runs");
        let begun = Instant::now();
        while let Ok(line) = self
            .lines
            .recv_timeout(LONGEST.saturating_sub(begun.elapsed()))
        {
            self.said.push(line);
        }
        let status = self.child.wait().expect("it ended");
        (status.code(), self.said.join("\n"))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a request.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("somebody listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("it can be asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
