//! Certificates for tests of TLS.

use std::path::Path;
use std::process::Command;

/// Writes four pairs of `NAME.crt` and `NAME.key` into a folder, all PEM: an authority `ca`, a `server` for 127.0.0.1 and a `client` that it
/// has signed, and a `stranger` that nobody trusts. Wants the command `openssl`.
///
/// # Panics
/// If they cannot be made.
pub fn certify(folder: &Path) {
    let signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    let server = [&signed[..], &["-addext", "subjectAltName=IP:127.0.0.1"]].concat();
    let (none, client): (&[&str], &[&str]) = (&[], &signed);
    for (name, options) in [("ca", none), ("stranger", none), ("client", client), ("server", &server)] {
        let made = Command::new("openssl")
            .current_dir(folder)
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "3650"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={name}")])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .args(options)
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}
