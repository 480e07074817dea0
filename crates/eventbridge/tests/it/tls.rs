//! Over TLS, with an authority that only we know.

use ensue_core::Code;
use ensue_core::bus::{Bus, Declare, Topology};
use ensue_core::name::Channel;

use crate::given;

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn only_an_authority_that_is_trusted_is_talked_to() {
    let server = given::server_with_tls().await;
    let topology =
        Topology { targets: vec![Channel::new("shop").expect("a valid name")], sources: Vec::new() };
    let trusting = server.config().authorities(server.authority()).open().await.expect("the file is read");
    trusting.declare(&topology, Declare::Make).await.expect("the certificate is good");
    let other = server.config().open().await.expect("the address is understood");
    let error = other.declare(&topology, Declare::DryRun).await.expect_err("nobody knows its authority");
    assert_eq!(error.code(), Code::BUS_ADDRESS, "trying again makes no certificate better: {error:?}");
    assert!(format!("{error:?}").contains("certificate"), "it says what is wrong: {error:?}");
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test"]
async fn a_file_that_holds_no_authority_is_refused_at_once() {
    let server = given::server_with_tls().await;
    for file in [server.authority().with_file_name("own.key"), server.authority().with_file_name("absent")] {
        let error = server.config().authorities(&file).open().await.map(drop).expect_err("it holds none");
        assert_eq!(error.code(), Code::BUS_ADDRESS, "{error:?}");
        assert!(error.message().contains(&*file.to_string_lossy()), "{error:?}");
    }
}
