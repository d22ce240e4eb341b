//! The program is killed, and its connection is cut, at many bytes of its talk with the server: all rows are set apart or none, and
//! doing it again completes it. The same for releasing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Shop;

/// How many places of the talk are tried, of each verb.
const PLACES: u64 = 24;
/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// Passes bytes between the program and the server, as many as it may.
struct Gate {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    passed: u64,
    most: u64,
    /// The connection ends there; else it waits.
    cuts: bool,
}

impl Gate {
    fn open(socket: PathBuf) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State {
            passed: 0,
            most: u64::MAX,
            cuts: false,
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = UnixStream::connect(&socket).expect("the server is there");
                pass(&client, &server, &shared);
            }
        });
        Gate { port, state }
    }

    fn begin(&self, most: u64, cuts: bool) {
        let mut state = self.state.0.lock().expect("no holder panics");
        *state = State {
            passed: 0,
            most,
            cuts,
        };
    }

    fn passed(&self) -> u64 {
        self.state.0.lock().expect("no holder panics").passed
    }

    /// Waits until no more may pass; false where the program has ended before.
    fn is_full(&self, child: &mut Child) -> bool {
        let begun = Instant::now();
        loop {
            let state = self.state.0.lock().expect("no holder panics");
            let open = |state: &mut State| state.passed < state.most;
            let moment = Duration::from_millis(5);
            let waited = self.state.1.wait_timeout_while(state, moment, open);
            if !waited.expect("no holder panics").1.timed_out() {
                return true;
            }
            if child.try_wait().expect("it is ours").is_some() {
                return false;
            }
            assert!(begun.elapsed() < LONGEST, "the program hangs");
        }
    }
}

fn pass(client: &TcpStream, server: &UnixStream, state: &Arc<(Mutex<State>, Condvar)>) {
    let (Ok(up), Ok(up_to), Ok(down), Ok(down_to)) = (
        client.try_clone(),
        server.try_clone(),
        server.try_clone(),
        client.try_clone(),
    ) else {
        return;
    };
    let (one, other) = (Arc::clone(state), Arc::clone(state));
    std::thread::spawn(move || {
        copy(up, &up_to, &one);
        let _ = up_to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        copy(down, &down_to, &other);
        let _ = down_to.shutdown(Shutdown::Both);
    });
}

/// Passes on what may pass, and then ends or takes no more.
fn copy(mut from: impl Read, mut to: impl Write, state: &(Mutex<State>, Condvar)) {
    let mut room = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut room) {
        let (may, cuts) = {
            let mut state = state.0.lock().expect("no holder panics");
            let left = usize::try_from(state.most - state.passed).unwrap_or(usize::MAX);
            let may = count.min(left);
            state.passed += may as u64;
            (may, state.cuts)
        };
        state.1.notify_all();
        if to.write_all(&room[..may]).is_err() || (may < count && cuts) {
            return;
        }
        if may < count {
            // Until the other end is gone.
            while let Ok(1..) = from.read(&mut room) {}
            return;
        }
    }
}

struct Stage {
    shop: Shop,
    gate: Gate,
}

impl Stage {
    fn start(&self, verb: &str) -> Child {
        let port = self.gate.port;
        let url = format!("postgres://firstbad_quarantine@127.0.0.1:{port}/shop");
        Command::new(env!("CARGO_BIN_EXE_firstbad"))
            .current_dir(self.shop.place.path("."))
            .args(["quarantine", verb, "I-1", &url, "--store", "store"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be started")
    }

    /// Does it undisturbed; says how many bytes that takes.
    fn whole(&self, verb: &str) -> u64 {
        self.gate.begin(u64::MAX, false);
        let status = self.start(verb).wait().expect("it ends");
        assert!(status.success(), "{verb}: {status}");
        self.gate.passed()
    }

    /// Does it until so many bytes have passed; then it is killed, or the connection is cut.
    fn broken(&self, verb: &str, bytes: u64, cut: bool) {
        self.gate.begin(bytes, cut);
        let mut child = self.start(verb);
        if !cut && self.gate.is_full(&mut child) {
            child.kill().expect("it can be killed");
        }
        let status = child.wait().expect("it ends");
        if cut {
            // Where only the goodbye was lost, it was done.
            assert!(
                matches!(status.code(), Some(0 | 3)),
                "{verb} at {bytes}: {status}"
            );
        }
        self.settles();
    }

    /// The server has ended what nobody waits for.
    fn settles(&self) {
        let busy = "select count(*) from pg_stat_activity where usename = 'firstbad_quarantine'";
        let begun = Instant::now();
        while self.shop.cluster.sql("shop", busy) != "0\n" {
            assert!(begun.elapsed() < LONGEST, "the server lets go");
        }
    }
}

#[test]
fn all_or_nothing_wherever_it_breaks() {
    let shop = Shop::open();
    shop.switch_on("'orders', freeze => true, hide_from => '{reporting}'");
    shop.lose_shipments("3, 7, 9, 11");
    let socket = format!(".s.PGSQL.{}", shop.cluster.port());
    let gate = Gate::open(shop.cluster.directory().join(socket));
    let stage = Stage { shop, gate };
    let before = stage.shop.dump();
    let (applying, releasing) = (stage.whole("apply"), stage.whole("release"));
    assert_eq!(stage.shop.dump(), before);
    let (mut nothing, mut all) = (0, 0);
    for place in 0..PLACES {
        let at = |bytes: u64| 1 + bytes * place / PLACES;
        let cut = place % 2 == 0;
        stage.broken("apply", at(applying), cut);
        match stage.shop.held() {
            0 => {
                nothing += 1;
                assert_eq!(stage.shop.dump(), before);
                assert_eq!(stage.shop.state("I-1"), "open");
            }
            4 => all += 1,
            some => panic!("{some} of 4 rows are set apart, at {place}"),
        }
        stage.whole("apply");
        assert_eq!(stage.shop.held(), 4);
        assert_eq!(stage.shop.state("I-1"), "quarantined");
        stage.broken("release", at(releasing), !cut);
        assert!(matches!(stage.shop.held(), 0 | 4), "at {place}");
        stage.whole("release");
        assert_eq!(stage.shop.dump(), before);
        assert_eq!(stage.shop.state("I-1"), "open");
    }
    println!("{nothing} times nothing, {all} times all");
    assert!(nothing > 0, "some were broken before they were done");
}
