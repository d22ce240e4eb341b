//! Whoever is told, on this machine: a web server for four kinds of sinks and a mail server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// What arrived at whom, in order: the message's id, and all of it.
type Arrived = BTreeMap<String, Vec<(String, String)>>;

/// The servers, and what they got.
pub(super) struct Sinks {
    web: String,
    mail: String,
    arrived: Arc<(Mutex<Arrived>, Condvar)>,
}

impl Sinks {
    pub(super) fn start() -> Sinks {
        let arrived = Arc::new((Mutex::new(Arrived::new()), Condvar::new()));
        let serve = |each: fn(TcpStream) -> std::io::Result<(String, String)>| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let arrived = Arc::clone(&arrived);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok((to, message)) = each(stream.expect("a connection")) else {
                        continue;
                    };
                    let id = header(&message, "firstbad-id");
                    let (all, news) = &*arrived;
                    let mut all = all.lock().expect("nobody panics with it");
                    all.entry(to).or_default().push((id, message));
                    news.notify_all();
                }
            });
            address
        };
        Sinks {
            web: serve(request),
            mail: serve(mail),
            arrived,
        }
    }

    /// The `alerts:` of firstbad.yaml; the command writes into `told` in a directory.
    pub(super) fn config(&self, directory: &Path) -> String {
        let (web, mail) = (&self.web, &self.mail);
        let told = directory.join("told").display().to_string();
        format!(
            "alerts:\n\
             - {{name: webhook, webhook: \"http://{web}/webhook\", secret: \"a secret for the test\", allow: private}}\n\
             - {{name: slack, slack: \"http://{web}/slack\", allow: private}}\n\
             - {{name: pagerduty, pagerduty: {{routing_key: \"0123456789abcdef0123456789abcdef\", url: \"http://{web}/pagerduty\"}}, allow: private}}\n\
             - {{name: alertmanager, alertmanager: \"http://{web}\", allow: private}}\n\
             - {{name: mail, email: {{smtp: \"smtp+plain://{mail}\", from: firstbad@example.com, to: [warehouse@example.com]}}, allow: private}}\n\
             - {{name: command, command: [tee, -a, \"{told}\"]}}\n"
        )
    }

    /// Waits until everybody got so many messages.
    pub(super) fn wait(&self, messages: usize) {
        let (all, news) = &*self.arrived;
        let begun = Instant::now();
        let mut all = all.lock().expect("nobody panics with it");
        while all.len() < 5 || all.values().any(|got| got.len() < messages) {
            let left = LONGEST.saturating_sub(begun.elapsed());
            assert!(
                !left.is_zero(),
                "{messages} messages for everybody: {all:#?}"
            );
            all = news
                .wait_timeout(all, left)
                .expect("nobody panics with it")
                .0;
        }
    }

    /// What arrived, by sink.
    pub(super) fn arrived(&self) -> Arrived {
        self.arrived
            .0
            .lock()
            .expect("nobody panics with it")
            .clone()
    }
}

/// The value of a header, empty where there is none.
fn header(message: &str, name: &str) -> String {
    let mut lines = message.lines().take_while(|line| !line.is_empty());
    let found = lines.find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    });
    found.unwrap_or_default()
}

/// Answers one request with 202; its path, headers and body.
fn request(stream: TcpStream) -> std::io::Result<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = header(&head, "content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer)?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok((
        path,
        head.replace("\r\n", "\n") + &String::from_utf8_lossy(&body),
    ))
}

/// Takes one mail.
fn mail(stream: TcpStream) -> std::io::Result<(String, String)> {
    let mut reader = BufReader::new(stream);
    let say = |reader: &mut BufReader<TcpStream>, text: &str| {
        reader.get_mut().write_all(format!("{text}\r\n").as_bytes())
    };
    say(&mut reader, "220 mail.example.com ESMTP")?;
    let (mut message, mut in_data) = (String::new(), false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            break;
        }
        let line = line.trim_end_matches(['\r', '\n']);
        match (in_data, line.to_ascii_uppercase().as_str()) {
            (true, ".") => {
                say(&mut reader, "250 kept")?;
                return Ok(("mail".to_owned(), message));
            }
            (true, _) => message += &format!("{line}\n"),
            (false, "DATA") => {
                in_data = true;
                say(&mut reader, "354 go on")?;
            }
            (false, "QUIT") => say(&mut reader, "221 bye")?,
            (false, _) => say(&mut reader, "250 well")?,
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}
