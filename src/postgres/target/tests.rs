//! Targets from URLs and their surroundings. What needs a server stands in `tests/postgres`.

use super::*;

fn bare() -> Environment {
    Environment::default().with_user("ann")
}

fn parse(url: &str) -> Target {
    Target::parse_with(url, &bare()).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn wrong(url: &str, environment: &Environment) -> (String, String) {
    match Target::parse_with(url, environment) {
        Err(PostgresError::Argument { message, hint }) => (message, hint.unwrap_or_default()),
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn urls_are_taken_apart_as_psql_does() {
    for (url, shown) in [
        ("postgres://", "postgres://ann@localhost:5432/ann"),
        ("postgresql://db", "postgres://ann@db:5432/ann"),
        ("postgres://db/shop", "postgres://ann@db:5432/shop"),
        ("postgres://bob@db:5433/shop", "postgres://bob@db:5433/shop"),
        ("postgres://bob:pw@db", "postgres://bob@db:5432/bob"),
        ("postgres://bob:@db/", "postgres://bob@db:5432/bob"),
        (
            "postgres://a%40b:p%3Aw@db/x%20y",
            "postgres://a%40b@db:5432/x%20y",
        ),
        (
            "postgres://[::1]:5433/shop",
            "postgres://ann@[::1]:5433/shop",
        ),
        ("postgres://[fe80::1]", "postgres://ann@[fe80::1]:5432/ann"),
        (
            "postgres://a,b:5433,[::1]/x",
            "postgres://ann@a:5432,b:5433,[::1]:5432/x",
        ),
        (
            "postgres://a,b/x?port=5434",
            "postgres://ann@a:5434,b:5434/x",
        ),
        (
            "postgres://a/x?host=b&port=1&user=u&dbname=d",
            "postgres://u@b:1/d",
        ),
        (
            "postgres:///x?host=/run/pg",
            "postgres://ann@%2Frun%2Fpg:5432/x",
        ),
        (
            "postgres://%2Frun%2Fpg:5433/x",
            "postgres://ann@%2Frun%2Fpg:5433/x",
        ),
        ("postgres://db?user=bob", "postgres://bob@db:5432/bob"),
        (
            "postgres://db/x?sslmode=require&",
            "postgres://ann@db:5432/x",
        ),
        (
            "postgres://db/%E2%80%AEx",
            "postgres://ann@db:5432/%E2%80%AEx",
        ),
    ] {
        assert_eq!(parse(url).shown(), shown, "{url}");
    }
    assert!(Target::is_url("postgresql://x") && !Target::is_url("./postgres"));
    let target = parse("postgres://db/x?connect_timeout=3&application_name=mine");
    assert_eq!(target.connect_timeout(), Duration::from_secs(3));
    assert_eq!(
        (target.application(), target.user(), target.database()),
        (Some("mine"), "ann", "x")
    );
    assert_eq!(
        parse("postgres://db").connect_timeout(),
        Duration::from_secs(10)
    );
    assert_eq!(
        parse("postgres://db/x").with_database("y").shown(),
        "postgres://ann@db:5432/y"
    );
}

#[test]
fn mistakes_are_explained_and_never_quoted() {
    for (url, message, hint) in [
        (
            "mysql://db",
            "no URL of a Postgres server",
            "postgres://user@host",
        ),
        (
            "postgres://db?sslmod=require",
            "unknown connection setting `sslmod` in the URL",
            "`sslmode`",
        ),
        (
            "postgres://db?pasword=k4n4ry",
            "unknown connection setting `pasword`",
            "`password`",
        ),
        ("postgres://db?zzz=1", "`zzz`", "known are host"),
        ("postgres://db?options=-c%20x", "`options`", "leave it out"),
        (
            "postgres://db?channel_binding=yes",
            "no channel_binding `yes`",
            "prefer",
        ),
        (
            "postgres://db?sslmode=verify_full",
            "no sslmode `verify_full`",
            "`verify-full`",
        ),
        ("postgres://db?sslmode=on", "no sslmode `on`", "disable"),
        ("postgres://db?sslmode", "has no value", "name=value"),
        ("postgres://db:x/y", "a port that is no number", "host:port"),
        ("postgres://db:0/y", "a port is no number", "%3A"),
        ("postgres://db:65536", "a port is no number", "%3A"),
        ("postgres://[::1", "without its `]`", "[::1]"),
        ("postgres://[]:1", "empty address", "[::1]"),
        ("postgres://[::1]x", "between `]`", "[::1]"),
        (
            "postgres://a,b?port=1,2,3",
            "2 hosts and 3 ports",
            "one port",
        ),
        ("postgres://d%zzb", "`%`", "%25"),
        ("postgres://d%ff", "`%`", "%25"),
        ("postgres://d%00b", "`%`", "%25"),
        ("postgres://d%", "`%`", "%25"),
        ("postgres://a b", "characters", "Unix socket"),
        ("postgres://bob:k4n4ry@x@db/y", "too many", "%40"),
        ("postgres://bob:k4n4ry/x@db/y", "too many", "%2F"),
        ("postgres://bob:5432/k4n4ry@db/y", "too many", "%2F"),
        (
            "postgres://bob:k4n4ry?x@db:y",
            "a port that is no number",
            "%3A",
        ),
        (
            "postgres://db?connect_timeout=soon",
            "connect_timeout",
            "10",
        ),
        ("postgres://db?sslcert=/x", "both its files", "sslkey"),
        (
            "postgres://db?sslmode=require&sslrootcert=system",
            "verify-full only",
            "authority",
        ),
        ("postgres://db?service=none", "no service `none`", ""),
    ] {
        let (said, advice) = wrong(url, &bare());
        assert!(
            said.contains(message) && advice.contains(hint),
            "{url}: {said}; {advice}"
        );
        assert!(
            !format!("{said}{advice}").contains("k4n4ry"),
            "{url}: {said}; {advice}"
        );
    }
    let (said, _) = wrong("postgres://db", &bare().with("PGOPTIONS", "-c x=y"));
    assert!(said.contains("PGOPTIONS"), "{said}");
    let (said, _) = wrong("postgres://db", &bare().with("PGCHANNELBINDING", "yes"));
    assert!(said.contains("channel_binding"), "{said}");
    let (said, _) = wrong("postgres://db", &Environment::default());
    assert!(said.contains("as whom"), "{said}");
}

#[test]
fn protection_follows_where_the_server_is() {
    use SslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
    for (url, mode) in [
        ("postgres://localhost", Prefer),
        ("postgres://127.0.0.9", Prefer),
        ("postgres://[::1]", Prefer),
        ("postgres:///x?host=/run/pg", Disable),
        ("postgres:///x?host=/run/pg&sslmode=verify-full", Disable),
        ("postgres://db", VerifyFull),
        ("postgres://10.0.0.1", VerifyFull),
        ("postgres://localhost.example.com", VerifyFull),
        ("postgres://db?sslmode=disable", Disable),
        ("postgres://db?sslmode=allow", Prefer),
        ("postgres://db?sslmode=prefer", Prefer),
        ("postgres://db?sslmode=require", Require),
        ("postgres://db?sslmode=require&sslrootcert=/ca", VerifyCa),
        ("postgres://db?sslmode=verify-ca", VerifyCa),
        ("postgres://localhost?sslmode=verify-full", VerifyFull),
    ] {
        let target = parse(url);
        assert_eq!(target.ssl_mode(&target.hosts()[0]), mode, "{url}");
    }
    let several = parse("postgres://localhost,db");
    let modes: Vec<SslMode> = several
        .hosts()
        .iter()
        .map(|host| several.ssl_mode(host))
        .collect();
    assert_eq!(modes, [Prefer, VerifyFull]);
}

#[test]
fn what_is_said_first_counts() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let service = file(
        "a",
        "[x]\nhost=service\nuser=service\nport=1\n[y]\nhost=y\n",
    );
    file("pg_service.conf", "[z]\nhost=system\n");
    file(
        ".pg_service.conf",
        "[h]\nhost=home\n[bad]\nnonsense k4n4ry\n[worse]\npasword=k4n4ry\n[own]\nservice=x\n",
    );
    let all = bare()
        .with_home(home.path())
        .with("PGSYSCONFDIR", &home.path().display().to_string())
        .with("PGHOST", "environment")
        .with("PGUSER", "environment")
        .with("PGDATABASE", "environment")
        .with("PGPORT", "2");
    let named = all.clone().with("PGSERVICEFILE", &service);
    let shown = |url: &str, environment: &Environment| {
        let parsed = Target::parse_with(url, environment);
        parsed
            .unwrap_or_else(|error| panic!("{url}: {error}"))
            .shown()
    };
    let environment = "postgres://environment@environment:2/environment";
    assert_eq!(shown("postgres://", &all), environment);
    let x = "postgres://service@service:1/environment";
    assert_eq!(shown("postgres://?service=x", &named), x);
    assert_eq!(
        shown("postgres://", &named.clone().with("PGSERVICE", "x")),
        x
    );
    let url = "postgres://url@url:3/url?service=x";
    assert_eq!(shown(url, &named), "postgres://url@url:3/url");
    assert_eq!(
        shown("postgres://?service=h", &all),
        "postgres://environment@home:2/environment"
    );
    assert_eq!(
        shown("postgres://?service=z", &all),
        "postgres://environment@system:2/environment"
    );
    for (service, message) in [
        ("nonsense", "no service"),
        ("bad", "a line without `=` in"),
        ("worse", "unknown connection setting `pasword` in"),
        ("own", "cannot name a service"),
    ] {
        let (said, advice) = wrong(&format!("postgres://?service={service}"), &all);
        assert!(said.contains(message), "{said}");
        assert!(!format!("{said}{advice}").contains("k4n4ry"), "{said}");
    }
    let empty = all.with("PGHOST", "").with("PGPORT", "");
    assert_eq!(
        shown("postgres://", &empty),
        "postgres://environment@localhost:5432/environment"
    );
}

#[test]
fn a_socket_that_is_there_is_taken_where_no_host_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join(".s.PGSQL.5433"), "").expect("it can be written");
    let near = bare().with_socket_directory(directory.path());
    let of =
        |url: &str| Target::parse_with(url, &near).map(|target| target.hosts()[0].address.clone());
    assert_eq!(
        of("postgres://?port=5433").ok(),
        Some(Address::Socket(directory.path().into()))
    );
    assert_eq!(
        of("postgres://").ok(),
        Some(Address::Tcp("localhost".into()))
    );
    assert_eq!(
        of("postgres://db?port=5433").ok(),
        Some(Address::Tcp("db".into()))
    );
}

#[test]
fn nothing_shows_a_password() {
    let environment = bare().with("PGPASSWORD", "k4n4ry");
    for url in [
        "postgres://bob:k4n4ry@db/x",
        "postgres://db?password=k4n4ry",
        "postgres://db",
    ] {
        let target = Target::parse_with(url, &environment).expect("it is right");
        assert!(target.hosts()[0].password.is_some());
        let shown = format!(
            "{target:?} {:#?} {} {environment:?}",
            target.hosts(),
            target.shown()
        );
        assert!(!shown.contains("k4n4ry"), "{shown}");
    }
}

/// Random URLs: no panic, and no part of a password in a message.
#[test]
fn any_text_is_a_target_or_a_mistake() {
    let seed = std::env::var("FIRSTBAD_SEED").ok();
    let mut state: u64 = seed
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("FIRSTBAD_SEED={state}");
    let mut below = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % end as u64) as usize
    };
    const PARTS: [&str; 24] = [
        "@", ":", "/", "?", "&", "=", "%", "%4", "%41", "[", "]", ",", "::1", "db", "5432", "host",
        "port", "sslmode", "require", "user", "\u{202e}", "é", " ", "service",
    ];
    for _ in 0..20_000 {
        let mut url = String::from("postgres://bob:k4n4ry");
        for _ in 0..below(12) {
            url.push_str(PARTS[below(PARTS.len())]);
        }
        url.push_str("@db/x");
        match Target::parse_with(&url, &bare()) {
            Ok(target) => {
                let shown = format!("{target:?} {}", target.shown());
                assert!(!shown.contains("k4n4ry"), "{url}: {shown}");
            }
            Err(error) => {
                let said = format!("{error} {error:?}");
                assert!(!said.contains("k4n4ry"), "{url}: {said}");
            }
        }
    }
}
