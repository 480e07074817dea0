//! Certificates and logins.

use std::time::Duration;

use ensue_core::bus::{Bus, Declare, Topology};
use ensue_core::name::Channel;
use ensue_core::{Code, Error};
use ensue_nats::Config;
use ensue_test::certificates::certify;

use crate::given::{self, Server};

/// A user by its key, and the seed of the key.
const NKEY: (&str, &str) = (
    "UCNNZ6ESUQTJVPCQAQTLTUU7I6Y3KPY6E2UJNNNHSPEJVKTHSNNZLSV7",
    "SUAC3FQP7ZN26CQWODGZ22D34GUDBSYL6YVL65JFLNMPDPWKSEJJEO56BE",
);

/// One that speaks TLS with those who show a certificate, and knows two users.
async fn server() -> std::sync::Arc<Server> {
    given::with(|folder| {
        certify(folder);
        let file = |name: &str| folder.join(name).display().to_string();
        format!(
            "authorization {{ users: [{{ user: orders, password: \"for-tests\" }}, {{ nkey: {} }}] }}\n\
             tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
            NKEY.0,
            file("server.crt"),
            file("server.key"),
            file("ca.crt"),
        )
    })
    .await
}

/// Makes something there, which needs to be let in.
async fn declare(config: Config) -> Result<(), Error> {
    let bus = config.answer_within(Duration::from_secs(2)).open().await?;
    let targets = vec![Channel::new("shop.orders").expect("a valid channel")];
    bus.declare(&Topology { targets, sources: Vec::new() }, Declare::Make).await.map(drop)
}

#[tokio::test]
#[ignore = "needs a NATS server: cargo xtask test"]
async fn over_tls_both_sides_show_certificates_and_users_have_a_password_or_a_key() {
    let server = server().await;
    let to = |host: &str| Config::new(format!("tls://{host}:{}", server.port()));
    let client = |config: Config| config.certificate(server.file("client.crt"), server.file("client.key"));
    let known = |config: Config| config.authorities(server.file("ca.crt"));
    let good = || known(client(to("127.0.0.1")));
    declare(good().password("orders", "for-tests")).await.expect("it is let in by its password");
    declare(good().nkey(NKEY.1)).await.expect("it is let in by its key");
    let login = |config: Config| config.password("orders", "for-tests");
    let bad = [
        (login(client(to("127.0.0.1")).authorities(server.file("stranger.crt"))), Code::BUS_ADDRESS),
        (login(known(client(to("localhost")))), Code::BUS_ADDRESS),
        (login(known(to("127.0.0.1"))), Code::BUS_ADDRESS),
        (good().password("orders", "wrong"), Code::BUS_DENIED),
        (good().token("for-tests"), Code::BUS_DENIED),
    ];
    for (number, (config, code)) in bad.into_iter().enumerate() {
        let shown = format!("{number}: {config:?}");
        let error = declare(config).await.expect_err(&shown);
        assert_eq!(error.code(), code, "{shown}: {error:?}");
    }
}
