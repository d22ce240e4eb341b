//! Servers that are none, or mean ill.

use std::io::{Read, Write};
use std::net::TcpListener;

use firstbad::postgres::{Access, PostgresError, Session};

use super::{refused, run, target};

/// What a client hears from a server that answers its first words with these bytes, whatever they are, and hangs up.
fn heard(mode: &str, answer: Vec<u8>) -> PostgresError {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut words = [0; 4096];
        let _ = stream.read(&mut words);
        let _ = stream.write_all(&answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut words);
    });
    let url =
        format!("postgres://ann:k4n4ry@127.0.0.1:{port}/shop?sslmode={mode}&connect_timeout=20");
    let error = run(async {
        refused(Session::open(&target(&url), "firstbad test", Access::ReadOnly).await)
    });
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("k4n4ry") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    server.join().expect("the server ends");
    error
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("it is short");
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

#[test]
fn who_does_not_speak_the_protocol_is_refused() {
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let ok = message(b'R', &[0; 4]);
    let protocol = |error: &PostgresError| matches!(error, PostgresError::Protocol(_));
    for (what, answer) in [
        (
            "another protocol",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        ),
        ("a message that is too long", message(b'R', &[0; 70_000])),
        ("an impossible length", vec![b'R', 0, 0, 0, 1]),
        (
            "a login that is over before it began",
            [scram.clone(), ok.clone()].concat(),
        ),
        (
            "a proof that is none",
            [scram.clone(), message(b'R', b"\0\0\0\x0br=x,s=eA==,i=4096")].concat(),
        ),
        (
            "a step too early",
            [scram, message(b'R', b"\0\0\0\x0cv=x")].concat(),
        ),
        ("a row before the login", message(b'D', b"\0\0")),
        ("parameters without end", {
            let parameter = message(b'S', b"a\0b\0");
            [ok.clone(), parameter.repeat(2000)].concat()
        }),
        (
            "a parameter that is cut short",
            [ok.clone(), message(b'S', b"a\0b")].concat(),
        ),
    ] {
        let error = heard("disable", answer);
        assert!(protocol(&error), "{what}: {error:?}");
        assert!(!error.is_transient(), "{what}");
    }
    for (what, answer) in [
        ("nothing", vec![]),
        ("half a message", vec![b'R', 0, 0]),
        ("a login without an end", ok),
    ] {
        let error = heard("disable", answer);
        assert!(error.is_transient(), "{what}: {error:?}");
    }
    for code in [2, 6, 7, 9, 99] {
        let error = heard("disable", message(b'R', &[0, 0, 0, code]));
        assert!(
            matches!(error, PostgresError::Refused { .. }),
            "{code}: {error:?}"
        );
    }
    let error = heard("disable", message(b'R', &[0, 0, 0, 3]));
    assert!(matches!(error, PostgresError::Refused { .. }), "{error:?}");
}

#[test]
fn nothing_is_believed_that_comes_before_encryption() {
    // Behind the yes stands what somebody slipped in: it is no TLS.
    let error = heard("require", [b"S".to_vec(), message(b'R', &[0; 4])].concat());
    assert!(matches!(error, PostgresError::Tls { .. }), "{error:?}");
    let error = heard("require", b"N".to_vec());
    assert!(matches!(error, PostgresError::Tls { .. }), "{error:?}");
    let error = heard(
        "verify-full",
        message(b'E', b"SFATAL\0C08P01\0M\x1b[2Jgo away\0\0"),
    );
    assert!(matches!(error, PostgresError::Tls { .. }), "{error:?}");
    assert!(!error.to_string().contains("go away"));
    let error = heard("require", b"H".to_vec());
    assert!(matches!(error, PostgresError::Protocol(_)), "{error:?}");
    let error = heard(
        "disable",
        message(b'E', b"SFATAL\0C57P03\0M\x1b[2Jstarting\0Dsecret\0\0"),
    );
    assert!(
        error.is_transient() && error.sqlstate() == Some("57P03"),
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("secret"));
}
