//! Connections over TLS: what each `sslmode` verifies, on a server with a certificate for 127.0.0.1.

use std::env;

use ensue_core::{Code, Error, Kind, Store};
use ensue_postgres::{Config, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::given::Database;

/// A file beside the server's certificate.
fn file(name: &str) -> String {
    let folder = env::var("ENSUE_TEST_POSTGRES_CERTIFICATES")
        .expect("ENSUE_TEST_POSTGRES_CERTIFICATES is a folder; `cargo xtask test` makes it");
    format!("{folder}/{name}")
}

/// Opens the store with these options, and says how its connection is made: the version of TLS and the client's name.
async fn connection(url: &str) -> Result<(Option<String>, Option<String>), Error> {
    let store = Config::new(url)?.open().await?;
    let transaction = store.begin().await?;
    let session = transaction.session().downcast::<Session>().expect("the session of this adapter");
    let sql = "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = session.client()?.query_one(sql, &[]).await.expect("valid SQL");
    Ok((row.get(0), row.get(1)))
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn each_mode_verifies_what_it_does_for_libpq() {
    let database = Database::new().await;
    let plain = database.url();
    let at = |host: &str, options: String| {
        let address = plain.replace("host=127.0.0.1", &format!("hostaddr=127.0.0.1 host={host}"));
        address.replace("sslmode=disable", &options)
    };
    let (ours, strange) = (file("ca.crt"), file("stranger.crt"));
    for (host, options, is_secure) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("elsewhere.example", String::new(), true),
        ("elsewhere.example", "sslmode=prefer".to_owned(), true),
        ("elsewhere.example", "sslmode=require".to_owned(), true),
        ("elsewhere.example", format!("sslmode=require sslrootcert={ours}"), true),
        ("elsewhere.example", format!("sslmode=verify-ca sslrootcert={ours}"), true),
        ("127.0.0.1", format!("sslmode=verify-full sslrootcert='{ours}'"), true),
    ] {
        let (version, _) = connection(&at(host, options.clone())).await.expect(&options);
        assert_eq!(version.is_some(), is_secure, "{options}: {version:?}");
    }
    for (host, options, says) in [
        ("127.0.0.1", format!("sslmode=require sslrootcert={strange}"), "UnknownIssuer"),
        ("127.0.0.1", format!("sslmode=verify-ca sslrootcert={strange}"), "UnknownIssuer"),
        ("127.0.0.1", format!("sslmode=verify-full sslrootcert={strange}"), "UnknownIssuer"),
        ("127.0.0.1", "sslmode=verify-full sslrootcert=system".to_owned(), "UnknownIssuer"),
        ("elsewhere.example", format!("sslmode=verify-full sslrootcert={ours}"), "not valid for name"),
        ("127.0.0.1", format!("sslmode=verify-full sslrootcert={ours}.no"), "no certificate can be read"),
        ("127.0.0.1", format!("sslmode=verify-ca sslrootcert={}", file("ca.key")), "there is no certificate"),
    ] {
        let error = connection(&at(host, options.clone())).await.expect_err(&options);
        assert_eq!((error.code(), error.kind()), (Code::DATABASE_TLS, Kind::Denied), "{options}: {error}");
        assert!(error.to_string().contains(says), "{options}: {error}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_certificate_of_the_client_is_shown_to_the_server() {
    let database = Database::new().await;
    let url = format!("{}&sslcert={}&sslkey={}", database.as_url(), file("client.crt"), file("client.key"));
    let (_, name) =
        connection(&url.replace("sslmode=disable", "sslmode=require")).await.expect("it is trusted");
    assert_eq!(name.as_deref(), Some("/CN=client"));
    let other_key = url.replace("client.key", "server.key");
    assert_eq!(connection(&other_key).await.expect_err("they do not fit").code(), Code::DATABASE_TLS);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL: cargo xtask test"]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).await.expect("a request");
        stream.write_all(b"N").await.expect("it listens");
        // Nothing may follow in plain text: no user, no password.
        (asked, stream.read_u8().await.is_err())
    });
    let url = format!("postgres://app:secret@127.0.0.1:{port}/d?sslmode=require");
    let error = connection(&url).await.expect_err("the server has no TLS");
    assert_eq!((error.code(), error.is_retryable()), (Code::DATABASE_TLS, false), "{error}");
    let request_for_tls = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
    assert_eq!(server.await.expect("it ran"), (request_for_tls, true));
}
