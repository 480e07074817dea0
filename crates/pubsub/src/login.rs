//! Who we are, as a token in each call.
//!
//! A service account signs its tokens itself, for an hour at most: the service takes them as they are, so nobody else has to be asked.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensue_core::{Code, Error};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tonic::metadata::{Ascii, MetadataValue};

use crate::config::{Login, Target};

/// Names the file of a service account, for every program of Google's.
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// For whom the tokens are.
const AUDIENCE: &str = "https://pubsub.googleapis.com/";
const VALID: Duration = Duration::from_hours(1);
/// How long before its end a token is renewed: clocks differ.
const RENEWED_BEFORE: Duration = Duration::from_mins(10);

/// See the module.
pub(crate) enum Tokens {
    /// Nobody asks, as emulators do not.
    None,
    Fixed(MetadataValue<Ascii>),
    Signed(Box<Signed>),
}

/// Tokens of a service account.
pub(crate) struct Signed {
    account: Account,
    key: RsaKeyPair,
    last: Mutex<Option<(SystemTime, MetadataValue<Ascii>)>>,
}

/// What is of use in the file of a service account.
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type")]
    sort: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    private_key: String,
}

impl Tokens {
    pub(crate) fn new(login: &Login, target: &Target) -> Result<Self, Error> {
        match login {
            Login::Token(token) => bearer(token).map(Self::Fixed),
            Login::ServiceAccount(file) => Self::of_file(file),
            Login::Found if target.is_emulator => Ok(Self::None),
            Login::Found => match env::var_os(VARIABLE) {
                Some(file) => Self::of_file(&PathBuf::from(file)),
                None => Err(Error::new(Code::BUS_ADDRESS, "there is no login for Pub/Sub").with_fix(format!(
                    "give the bus a token or the file of a service account, or name that file in {VARIABLE}"
                ))),
            },
        }
    }

    fn of_file(file: &Path) -> Result<Self, Error> {
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|cause| {
            unusable(format!("cannot read the login {shown}: {cause}")).with_source(cause)
        })?;
        // What the parser says of a file that it does not understand may hold a part of the key.
        let account: Account =
            serde_json::from_str(&text).map_err(|_| unusable(format!("{shown} is no login of Google's")))?;
        if account.sort != "service_account" {
            let message = format!("{shown} is a login of the sort `{}`", account.sort);
            return Err(unusable(message).with_fix(
                "give the bus the file of a service account, or a token: `gcloud auth print-access-token` prints one",
            ));
        }
        Signed::new(account)
            .ok_or_else(|| unusable(format!("there is no key of RSA in {shown}")))
            .map(|signed| Self::Signed(Box::new(signed)))
    }

    /// The value of `authorization`.
    pub(crate) fn header(&self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::Signed(signed) => signed.header(SystemTime::now()).map(Some),
        }
    }
}

impl Signed {
    fn new(account: Account) -> Option<Self> {
        let key = PrivateKeyDer::from_pem_slice(account.private_key.as_bytes()).ok()?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return None,
        };
        Some(Self { account, key: key.ok()?, last: Mutex::new(None) })
    }

    fn header(&self, now: SystemTime) -> Result<MetadataValue<Ascii>, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((renewed_at, value)) = &*last
            && now < *renewed_at
        {
            return Ok(value.clone());
        }
        let value = bearer(&self.sign(now)?)?;
        *last = Some((now + VALID - RENEWED_BEFORE, value.clone()));
        Ok(value)
    }

    /// A token that is valid from now on.
    fn sign(&self, now: SystemTime) -> Result<String, Error> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let head = json!({ "alg": "RS256", "typ": "JWT", "kid": self.account.private_key_id });
        let claims = json!({
            "iss": self.account.client_email,
            "sub": self.account.client_email,
            "aud": AUDIENCE,
            "iat": seconds,
            "exp": seconds + VALID.as_secs(),
        });
        let parts = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = parts.join(".");
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| unusable("the key of the service account cannot sign".to_owned()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let value = MetadataValue::try_from(format!("Bearer {token}"));
    let mut value =
        value.map_err(|_| unusable("the token holds characters that no header may hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unusable(message: String) -> Error {
    Error::new(Code::BUS_ADDRESS, message)
}
