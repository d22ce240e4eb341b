//! Logging in: every source of a password, every way of asking for one, every degree of protection.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use firstbad::postgres::{Access, Environment, PostgresError, Replication, Session, Target};

use super::postgres::{Cluster, Setup};
use super::{bare, certificate, refused, run, target};

/// A password that must appear nowhere.
const CANARY: &str = "k4n4ry:with\\odd @/?%é";
const CANARY_ENCODED: &str = "k4n4ry%3Awith%5Codd%20%40%2F%3F%25%C3%A9";

const HBA: [&str; 9] = [
    "host all postgres 127.0.0.1/32 trust",
    "host all ann 127.0.0.1/32 scram-sha-256",
    "host all old 127.0.0.1/32 md5",
    "host all clear 127.0.0.1/32 password",
    "local all clear password",
    "hostssl all carol 127.0.0.1/32 cert",
    "hostnossl all plain 127.0.0.1/32 trust",
    "hostssl all secure 127.0.0.1/32 trust",
    "host all barred 127.0.0.1/32 reject",
];

/// A server that listens on TCP, with a role for each line above.
fn cluster() -> Cluster {
    let cluster = Cluster::start_with(&Setup {
        tcp: true,
        settings: &["max_wal_senders=4"],
        hba: &HBA,
    });
    let directory = cluster.directory().display().to_string();
    cluster.install(&certificate("authority.crt"));
    serve(&cluster, "server");
    let password = CANARY.replace('\'', "''");
    cluster.sql(
        "postgres",
        &format!(
            "CREATE ROLE ann LOGIN REPLICATION PASSWORD '{password}'; CREATE ROLE clear LOGIN PASSWORD '{password}';
             SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD '{password}';
             CREATE ROLE carol LOGIN; CREATE ROLE plain LOGIN; CREATE ROLE secure LOGIN; CREATE ROLE barred LOGIN;"
        ),
    );
    for setting in [
        "ssl = on".to_owned(),
        format!("ssl_cert_file = '{directory}/tls.crt'"),
        format!("ssl_key_file = '{directory}/tls.key'"),
        format!("ssl_ca_file = '{directory}/authority.crt'"),
    ] {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    restart(&cluster);
    cluster
}

/// Gives the server a certificate; it takes effect with the next start.
fn serve(cluster: &Cluster, name: &str) {
    for kind in ["crt", "key"] {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let file = scratch.path().join(format!("tls.{kind}"));
        std::fs::copy(certificate(&format!("{name}.{kind}")), &file).expect("it can be copied");
        cluster.install(&file);
    }
}

fn restart(cluster: &Cluster) {
    assert!(cluster.stop("fast", 60));
    cluster.run();
}

/// Logs in and asks who it is; also that nothing on the way shows the password.
async fn who(target: &Target) -> Result<String, PostgresError> {
    no_canary(&format!("{target:?} {}", target.shown()));
    let opened = Session::open(target, "firstbad test", Access::ReadOnly).await;
    let session = opened.inspect_err(|error| {
        no_canary(&format!("{error:?} {error} {:?}", error.hint()));
    })?;
    no_canary(&format!("{session:?} {:?}", session.client()));
    let row = session
        .client()
        .query_one("SELECT current_user::text", &[])
        .await?;
    let user = row.try_get(0)?;
    session.close().await;
    Ok(user)
}

fn no_canary(text: &str) {
    assert!(!text.contains("k4n4ry"), "the password is shown: {text}");
}

#[test]
fn one_logs_in_as_psql_does() {
    let cluster = cluster();
    run(async {
        passwords(&cluster).await;
        ways_of_asking(&cluster).await;
        sessions(&cluster).await;
        hosts(&cluster).await;
        protection(&cluster).await;
    });
    run(certificates(&cluster));
}

async fn passwords(cluster: &Cluster) {
    let port = cluster.port();
    let home = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str, mode: u32| {
        let file = home.path().join(name);
        std::fs::write(&file, text).expect("it can be written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))
            .expect("it can be protected");
        file.display().to_string()
    };
    let escaped = CANARY.replace('\\', "\\\\").replace(':', "\\:");
    let right = format!("# a comment\n*:1:*:*:wrong\n127.0.0.1:{port}:postgres:ann:{escaped}\n");
    let (passfile, service) = (
        write("pass", &right, 0o600),
        write(
            "service",
            &format!(
                "# ours\n[other]\npassword=wrong\n\n[shop]\nhost=127.0.0.1\nport={port}\ndbname=postgres\nuser=ann\npassword={CANARY}\n"
            ),
            0o644,
        ),
    );
    write(".pgpass", &right, 0o600);
    let url = format!("postgres://ann@127.0.0.1:{port}/postgres");
    let wrong = bare().with("PGPASSWORD", "wrong");
    let parse = |url: &str, environment: &Environment| {
        let parsed = Target::parse_with(url, environment);
        parsed.unwrap_or_else(|error| panic!("{error}"))
    };
    let with_password = url.replace("ann@", &format!("ann:{CANARY_ENCODED}@"));
    for (what, url, environment) in [
        ("the URL", with_password.as_str(), wrong.clone()),
        (
            "a setting",
            &format!("{url}?password={CANARY_ENCODED}"),
            wrong.clone(),
        ),
        ("PGPASSWORD", &url, bare().with("PGPASSWORD", CANARY)),
        ("PGPASSFILE", &url, bare().with("PGPASSFILE", &passfile)),
        ("passfile", &format!("{url}?passfile={passfile}"), bare()),
        ("~/.pgpass", &url, bare().with_home(home.path())),
        (
            "a service",
            "postgres://?service=shop",
            wrong.clone().with("PGSERVICEFILE", &service),
        ),
        (
            "PGSERVICE",
            "postgresql://",
            wrong
                .clone()
                .with("PGSERVICE", "shop")
                .with("PGSERVICEFILE", &service),
        ),
        (
            "variables",
            "postgres://",
            bare()
                .with("PGHOST", "127.0.0.1")
                .with("PGPORT", &port.to_string())
                .with("PGUSER", "ann")
                .with("PGDATABASE", "postgres")
                .with("PGPASSWORD", CANARY),
        ),
    ] {
        no_canary(&format!("{environment:?}"));
        let user = who(&parse(url, &environment)).await;
        assert_eq!(
            user.unwrap_or_else(|error| panic!("{what}: {error}")),
            "ann"
        );
    }
    let error = refused(who(&parse(&url, &wrong)).await);
    assert_eq!(error.sqlstate(), Some("28P01"), "{error}");
    assert!(!error.is_transient());
    let error = refused(who(&parse(&url, &bare())).await);
    assert!(matches!(error, PostgresError::Argument { .. }), "{error}");

    let open = write("open", &right, 0o644);
    let target = parse(&url, &bare().with("PGPASSFILE", &open));
    assert!(
        target.warnings()[0].contains("others may read it"),
        "{:?}",
        target.warnings()
    );
    assert!(matches!(
        refused(who(&target).await),
        PostgresError::Argument { .. }
    ));
}

async fn ways_of_asking(cluster: &Cluster) {
    let port = cluster.port();
    let url = |user: &str, rest: &str| {
        target(&format!(
            "postgres://{user}:{CANARY_ENCODED}@127.0.0.1:{port}/postgres?{rest}"
        ))
    };
    for user in ["ann", "old"] {
        for mode in ["disable", "prefer", "require"] {
            let got = who(&url(user, &format!("sslmode={mode}"))).await;
            assert_eq!(
                got.unwrap_or_else(|error| panic!("{user} {mode}: {error}")),
                user
            );
        }
    }
    // Bound to the TLS connection, so that nobody between can pass the proof on.
    for binding in ["disable", "prefer", "require"] {
        let rest = format!("sslmode=require&channel_binding={binding}");
        let got = who(&url("ann", &rest)).await;
        assert_eq!(
            got.unwrap_or_else(|error| panic!("{binding}: {error}")),
            "ann"
        );
    }
    for (user, mode) in [
        ("ann", "disable"),
        ("old", "require"),
        ("postgres", "require"),
    ] {
        let rest = format!("sslmode={mode}&channel_binding=require");
        let error = refused(who(&url(user, &rest)).await);
        assert!(
            matches!(error, PostgresError::Refused { .. }),
            "{user}: {error}"
        );
    }
    // In clear text only where nobody can read along.
    let error = refused(who(&url("clear", "sslmode=disable")).await);
    assert!(matches!(error, PostgresError::Refused { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("sslmode")));
    assert_eq!(
        who(&url("clear", "sslmode=require")).await.ok().as_deref(),
        Some("clear")
    );
    let socket = cluster
        .url("postgres")
        .replace("postgres@", &format!("clear:{CANARY_ENCODED}@"));
    assert_eq!(who(&target(&socket)).await.ok().as_deref(), Some("clear"));

    let error = refused(who(&url("barred", "")).await);
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    assert!(
        error.to_string().contains("SSL encryption"),
        "the first of both ways is told: {error}"
    );
    let replication = Replication::open(&url("ann", ""), "firstbad test").await;
    let mut replication = replication.unwrap_or_else(|error| panic!("{error}"));
    no_canary(&format!("{replication:?}"));
    let rows = replication
        .query("SELECT current_user")
        .await
        .expect("it answers");
    assert_eq!(rows, [[Some("ann".to_owned())]]);
    let error = refused(replication.query("SELECT 1/0; SELECT 1").await);
    assert_eq!(error.sqlstate(), Some("22012"));
    assert!(
        replication.query("SELECT 1").await.is_ok(),
        "it goes on after an error"
    );
}

async fn sessions(cluster: &Cluster) {
    cluster.sql(
        "postgres",
        "ALTER ROLE postgres SET datestyle = 'German, DMY'; ALTER ROLE postgres SET statement_timeout = '7s'; \
         ALTER ROLE postgres SET client_encoding = 'LATIN1'",
    );
    let socket = target(&cluster.url("postgres"));
    for (access, read_only) in [(Access::ReadOnly, "on"), (Access::ReadWrite, "off")] {
        let session = Session::open(&socket, "firstbad test", access).await;
        let session = session.unwrap_or_else(|error| panic!("{error}"));
        for (setting, wanted) in [
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "1"),
            ("bytea_output", "hex"),
            ("client_encoding", "UTF8"),
            ("statement_timeout", "0"),
            ("lock_timeout", "10s"),
            ("application_name", "firstbad test"),
            ("default_transaction_read_only", read_only),
            (
                "server_version_num",
                &session.server_version_num().to_string(),
            ),
        ] {
            let row = session
                .client()
                .query_one("SELECT current_setting($1)", &[&setting])
                .await;
            let have: String = row.expect("it answers").get(0);
            assert_eq!(have, wanted, "{setting}");
        }
        let error = session
            .client()
            .batch_execute("SELECT 'a secret value'::int")
            .await;
        let error = PostgresError::from(error.expect_err("it is no number"));
        assert_eq!(error.sqlstate(), Some("22P02"));
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
        let killed = "SELECT pg_terminate_backend(pg_backend_pid())";
        let error = session.client().batch_execute(killed).await;
        let error = PostgresError::from(error.expect_err("it kills itself"));
        assert!(error.is_transient(), "{error}");
        let error = session.client().batch_execute("SELECT 1").await;
        assert!(PostgresError::from(error.expect_err("it is gone")).is_transient());
    }
    cluster.sql("postgres", "ALTER ROLE postgres RESET ALL");
    let error = refused(who(&socket.with_database("nowhere")).await);
    assert_eq!(error.sqlstate(), Some("3D000"));
    assert!(!error.is_transient());
}

async fn hosts(cluster: &Cluster) {
    let port = cluster.port();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it has an address").port()
    };
    let several = format!("127.0.0.1:{closed},127.0.0.1:{port}");
    let url = target(&format!("postgres://postgres@{several}/postgres"));
    assert_eq!(who(&url).await.ok().as_deref(), Some("postgres"));
    let directory = cluster.directory().display();
    let by_setting = format!("postgres:///postgres?user=postgres&host={directory}&port={port}");
    assert_eq!(
        who(&target(&by_setting)).await.ok().as_deref(),
        Some("postgres")
    );

    let nobody = target(&format!("postgres://postgres@127.0.0.1:{closed}/postgres"));
    let error = refused(who(&nobody).await);
    assert!(
        matches!(error, PostgresError::Io { .. }) && error.is_transient(),
        "{error}"
    );
    // Nobody takes the connection off the listener's queue, nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let deaf = listener.local_addr().expect("it has an address").port();
    let quiet = target(&format!(
        "postgres://postgres@127.0.0.1:{deaf}/postgres?sslmode=require"
    ));
    let error = refused(firstbad::postgres::dial(&quiet, Duration::from_millis(50)).await);
    assert!(
        matches!(error, PostgresError::Timeout { .. }) && error.is_transient(),
        "{error}"
    );
    let then = format!("127.0.0.1:{deaf},127.0.0.1:{port}");
    let url = format!("postgres://postgres@{then}/postgres?connect_timeout=1&sslmode=disable");
    assert_eq!(who(&target(&url)).await.ok().as_deref(), Some("postgres"));
    drop(listener);
}

/// Whether a session is encrypted, as the server sees it.
async fn is_encrypted(target: &Target) -> Result<bool, PostgresError> {
    let session = Session::open(target, "firstbad test", Access::ReadOnly).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = session.client().query_one(sql, &[]).await?;
    Ok(row.try_get(0)?)
}

fn url(cluster: &Cluster, user: &str, host: &str, rest: &str) -> Target {
    target(&format!(
        "postgres://{user}@{host}:{}/postgres?{rest}",
        cluster.port()
    ))
}

async fn protection(cluster: &Cluster) {
    let path = |name: &str| certificate(name).display().to_string();
    let (authority, stranger) = (path("authority.crt"), path("stranger.crt"));
    for (rest, encrypted) in [
        ("sslmode=disable".to_owned(), false),
        (String::new(), true),
        ("sslmode=allow".into(), true),
        ("sslmode=prefer".into(), true),
        ("sslmode=require".into(), true),
        (format!("sslmode=require&sslrootcert={authority}"), true),
        (format!("sslmode=verify-ca&sslrootcert={authority}"), true),
        (format!("sslmode=verify-full&sslrootcert={authority}"), true),
    ] {
        for host in ["127.0.0.1", "localhost"] {
            let target = url(cluster, "postgres", host, &rest);
            let got = is_encrypted(&target).await;
            assert_eq!(
                got.unwrap_or_else(|error| panic!("{rest}: {error}")),
                encrypted,
                "{rest}"
            );
        }
    }
    for rest in [
        format!("sslmode=require&sslrootcert={stranger}"),
        format!("sslmode=verify-ca&sslrootcert={stranger}"),
        format!("sslmode=verify-full&sslrootcert={stranger}"),
        "sslmode=verify-full".into(),
        "sslmode=verify-full&sslrootcert=system".into(),
    ] {
        let error = refused(is_encrypted(&url(cluster, "postgres", "localhost", &rest)).await);
        assert!(
            matches!(error, PostgresError::Tls { .. }),
            "{rest}: {error}"
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("sslrootcert")),
            "{error:?}"
        );
    }
    // `pg_hba.conf` lets each in by one of both ways only.
    let plain = is_encrypted(&url(cluster, "plain", "127.0.0.1", "sslmode=prefer")).await;
    assert_eq!(plain.ok(), Some(false));
    let secure = is_encrypted(&url(cluster, "secure", "127.0.0.1", "sslmode=prefer")).await;
    assert_eq!(secure.ok(), Some(true));
    let error =
        refused(is_encrypted(&url(cluster, "secure", "127.0.0.1", "sslmode=disable")).await);
    assert_eq!(error.sqlstate(), Some("28000"));
    client_certificates(cluster).await;
}

async fn client_certificates(cluster: &Cluster) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let key = scratch.path().join("client.key");
    std::fs::copy(certificate("client.key"), &key).expect("it can be copied");
    let protect = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&key, permissions).expect("it can be protected");
    };
    protect(0o600);
    let by = |key: &Path| {
        let crt = certificate("client.crt").display().to_string();
        let rest = format!("sslmode=require&sslcert={crt}&sslkey={}", key.display());
        url(cluster, "carol", "localhost", &rest)
    };
    assert_eq!(who(&by(&key)).await.ok().as_deref(), Some("carol"));
    let error = refused(who(&url(cluster, "carol", "localhost", "sslmode=require")).await);
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    protect(0o644);
    let error = refused(who(&by(&key)).await);
    assert!(matches!(error, PostgresError::Argument { .. }), "{error}");
    let error = refused(who(&by(&certificate("client.crt"))).await);
    assert!(matches!(error, PostgresError::Argument { .. }), "{error}");
}

/// Other certificates of the server: for another name, of its own making; then none.
async fn certificates(cluster: &Cluster) {
    let path = |name: &str| certificate(name).display().to_string();
    let localhost = |rest: &str| url(cluster, "postgres", "localhost", rest);
    serve(cluster, "other");
    restart(cluster);
    let authority = path("authority.crt");
    let full = localhost(&format!("sslmode=verify-full&sslrootcert={authority}"));
    let error = refused(is_encrypted(&full).await);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("subjectAltName")),
        "{error:?}"
    );
    let chain = localhost(&format!("sslmode=verify-ca&sslrootcert={authority}"));
    assert_eq!(is_encrypted(&chain).await.ok(), Some(true));

    serve(cluster, "selfsigned");
    restart(cluster);
    let own = localhost(&format!(
        "sslmode=verify-full&sslrootcert={}",
        path("selfsigned.crt")
    ));
    assert_eq!(is_encrypted(&own).await.ok(), Some(true));
    let error = refused(is_encrypted(&full).await);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");

    cluster.sql("postgres", "ALTER SYSTEM SET ssl = off");
    restart(cluster);
    assert_eq!(is_encrypted(&localhost("")).await.ok(), Some(false));
    let error = refused(is_encrypted(&localhost("sslmode=require")).await);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");
    let error = refused(is_encrypted(&full).await);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");
}
