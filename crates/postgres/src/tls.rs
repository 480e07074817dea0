//! Connections over TLS, and what each mode of libpq verifies.
//!
//! Built on rustls with ring. The roots of `sslrootcert=system` are those of the machine and not a list of ours: whoever runs a
//! database runs the authority that signs for it, and its certificate is on his machines.

use std::env;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ensue_core::{Code, Error};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::{Mode, Roots, Security};

/// What the driver connects with.
pub(crate) type Connector = MakeRustlsConnect;

/// The connector that verifies what the address asks for.
pub(crate) fn connector(security: &Security) -> Result<Connector, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(security, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| failed("TLS cannot be set up").with_source(cause))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &security.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let unreadable =
                |cause| failed(format!("no key can be read from {}", key.display())).with_source(cause);
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|cause| {
                failed(format!("{} and its key do not fit", certificate.display())).with_source(cause)
            })?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(security: &Security, provider: &Arc<CryptoProvider>) -> Result<Verifier, Error> {
    let roots = roots(&security.roots)?;
    let demand = match (security.mode, &roots) {
        (Mode::VerifyFull, _) => Demand::Host,
        // As libpq: who says whose certificates count wants them to.
        (Mode::VerifyCa, _) | (Mode::Require, Some(_)) => Demand::Authority,
        (Mode::Disable | Mode::Prefer | Mode::Require, _) => Demand::Nothing,
    };
    let chain = match (demand, roots) {
        (Demand::Nothing, _) => None,
        (_, Some(roots)) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(verifier.build().map_err(|cause| failed("no certificate is trusted").with_source(cause))?)
        }
        (_, None) => {
            let message = "there is nothing to verify the certificate of the database with";
            return Err(failed(message).with_fix(
                "name the certificate of its authority, `sslrootcert=FILE`, or `sslrootcert=system`",
            ));
        }
    };
    Ok(Verifier { demand, chain, provider: Arc::clone(provider) })
}

fn roots(of: &Roots) -> Result<Option<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    match of {
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Roots::File(file) => add(&mut store, file)?,
        Roots::Home => {
            let home = env::home_dir().map(|home| home.join(".postgresql/root.crt"));
            let Some(file) = home.filter(|file| file.exists()) else { return Ok(None) };
            add(&mut store, &file)?;
        }
    }
    Ok(Some(store))
}

fn add(store: &mut RootCertStore, file: &Path) -> Result<(), Error> {
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|cause| {
            failed(format!("{} holds a certificate that is no authority's", file.display()))
                .with_source(cause)
        })?;
    }
    Ok(())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(failed(format!("there is no certificate in {}", file.display()))),
        Err(cause) => {
            Err(failed(format!("no certificate can be read from {}", file.display())).with_source(cause))
        }
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(Code::DATABASE_TLS, message.into())
}

/// What is verified of the server's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Demand {
    /// That the server has the key of it.
    Nothing,
    /// Besides, who signed it.
    Authority,
    /// Besides, that it is for this host.
    Host,
}

struct Verifier {
    demand: Demand,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, host, stapled, now) {
            // The name is looked at last, when all else is verified.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.demand == Demand::Authority => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("demand", &self.demand).finish_non_exhaustive()
    }
}
