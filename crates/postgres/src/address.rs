//! What an address says about TLS, which the driver understands only in part: taken out of it, in both of its forms.

use std::path::PathBuf;

use ensue_core::{Code, Error};

/// How a connection is made secure, with the words and the meaning of libpq.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) mode: Mode,
    pub(crate) roots: Roots,
    /// The files of a certificate of the client and of its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Never TLS.
    Disable,
    /// TLS where the server has it, with whatever certificate.
    #[default]
    Prefer,
    /// TLS, with whatever certificate, unless it is said whose certificates count.
    Require,
    /// TLS with a certificate of somebody trusted.
    VerifyCa,
    /// Besides, the certificate is one for this host.
    VerifyFull,
}

/// `sslrootcert`: whose certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nothing is said: those of `~/.postgresql/root.crt`, if there is one.
    #[default]
    Home,
    /// Those that this machine trusts.
    System,
    /// Those of a file.
    File(PathBuf),
}

/// The address for the driver, and what was taken out of it.
pub(crate) fn parse(address: &str) -> Result<(String, Security), Error> {
    let (rest, options) = if address.contains("://") { split_url(address) } else { split_pairs(address) }?;
    Ok((rest, security(&options)?))
}

fn security(options: &[(String, String)]) -> Result<Security, Error> {
    let last =
        |name: &str| options.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let roots = match last("sslrootcert") {
        None => Roots::Home,
        Some("system") => Roots::System,
        Some(file) => Roots::File(file.into()),
    };
    let mode = match last("sslmode") {
        None if roots == Roots::System => Mode::VerifyFull,
        None => Mode::default(),
        Some("disable") => Mode::Disable,
        Some("prefer") => Mode::Prefer,
        Some("require") => Mode::Require,
        Some("verify-ca") => Mode::VerifyCa,
        Some("verify-full") => Mode::VerifyFull,
        Some(other) => {
            return Err(refused(&format!(
                "`sslmode={other}` is none of disable, prefer, require, verify-ca, verify-full"
            )));
        }
    };
    if roots == Roots::System && mode != Mode::VerifyFull {
        // Anybody gets a certificate that a machine trusts, for a host of his own.
        return Err(refused("`sslrootcert=system` goes with `sslmode=verify-full` alone"));
    }
    let identity = match (last("sslcert"), last("sslkey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        _ => return Err(refused("`sslcert` and `sslkey` go together")),
    };
    Ok(Security { mode, roots, identity })
}

fn refused(reason: &str) -> Error {
    Error::new(Code::DATABASE_URL, format!("the address of the database is not understood: {reason}"))
}

/// Options whose meaning is given here, and those that must not be taken for heeded.
fn is_ours(name: &str) -> Result<bool, Error> {
    match name {
        "sslmode" | "sslrootcert" | "sslcert" | "sslkey" => Ok(true),
        "sslcrl" | "sslcrldir" | "sslpassword" => Err(refused(&format!("`{name}` is not supported"))),
        _ => Ok(false),
    }
}

type Split = Result<(String, Vec<(String, String)>), Error>;

fn split_url(url: &str) -> Split {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), Vec::new())) };
    let (mut rest, mut ours) = (Vec::new(), Vec::new());
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_ours(name)? {
            ours.push((name.to_owned(), decoded(value)));
        } else {
            rest.push(pair);
        }
    }
    let rest = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((rest, ours))
}

/// `%XX` as the byte it stands for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let Some((first, others)) = left.split_first() {
        let code = others.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = others.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                left = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `name = value` with spaces between; a value in single quotes may hold spaces, and `\` takes what follows as it is.
fn split_pairs(line: &str) -> Split {
    let (mut rest, mut ours) = (Vec::new(), Vec::new());
    let mut left = line.trim_start();
    while let Some((name, after)) = left.split_once('=') {
        let after = after.trim_start();
        let (value, length) = value(after);
        let name = name.trim();
        if is_ours(name)? {
            ours.push((name.to_owned(), value));
        } else {
            let raw = after.get(..length).unwrap_or_default();
            rest.push(format!("{name}={raw}"));
        }
        left = after.get(length..).unwrap_or_default().trim_start();
    }
    // What is no pair is for the driver to refuse.
    rest.extend((!left.is_empty()).then(|| left.to_owned()));
    Ok((rest.join(" "), ours))
}

/// The value in front of the text, and how many bytes of the text it takes.
fn value(text: &str) -> (String, usize) {
    let is_quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(is_quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return (value, at + 1),
            space if !is_quoted && space.is_whitespace() => return (value, at),
            other => value.push(other),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_tls_is_taken_out_of_both_forms() {
        let file = Security {
            mode: Mode::VerifyCa,
            roots: Roots::File("/a b/ca.pem".into()),
            identity: Some(("c.pem".into(), "k.pem".into())),
        };
        for (address, rest, security) in [
            ("postgres://u@h/d", "postgres://u@h/d", Security::default()),
            (
                "postgres://u@h/d?sslmode=require",
                "postgres://u@h/d",
                Security { mode: Mode::Require, ..Security::default() },
            ),
            (
                "postgres://u@h/d?sslcert=c.pem&application_name=x%20y&sslkey=k.pem&sslmode=verify-ca&sslrootcert=%2Fa%20b/ca.pem",
                "postgres://u@h/d?application_name=x%20y",
                file.clone(),
            ),
            (
                r"host=h sslcert=c.pem sslkey = 'k.pem' password='a b\'=c' sslmode=verify-ca sslrootcert='/a b/ca.pem' dbname=d",
                r"host=h password='a b\'=c' dbname=d",
                file,
            ),
            (
                "host=h sslrootcert=system",
                "host=h",
                Security { mode: Mode::VerifyFull, roots: Roots::System, identity: None },
            ),
        ] {
            assert_eq!(parse(address).expect(address), (rest.to_owned(), security), "{address}");
        }
    }

    #[test]
    fn what_cannot_be_heeded_is_refused() {
        for options in [
            "sslmode=allow",
            "sslmode=verify",
            "sslrootcert=system&sslmode=require",
            "sslcert=c.pem",
            "sslcrl=x",
        ] {
            for address in [format!("postgres://h/d?{options}"), options.replace('&', " ")] {
                assert_eq!(parse(&address).expect_err(&address).code(), Code::DATABASE_URL);
            }
        }
    }
}
