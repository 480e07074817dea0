//! The way to the broker: plain, or secured with rustls and ring.
//!
//! The driver can do the latter itself, but brings readers of key stores with ciphers of the last century along. So it is given a stream
//! that is ready, and with it the runtime that knows this sort of stream.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_compat::Compat;
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use ensue_core::{Code, Error};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is trusted, and what we show.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// The authorities in a PEM file; those of the machine where there is none.
    pub(crate) authorities: Option<PathBuf>,
    /// A certificate of our own and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// The connector of an address, which is none where the address asks for no TLS. Files that would then say nothing are refused, or
/// somebody would believe in a secured connection.
pub(crate) fn connector(uri: &AMQPUri, trust: &Trust) -> Result<Option<TlsConnector>, Error> {
    if uri.scheme == AMQPScheme::AMQP {
        if trust.authorities.is_none() && trust.certificate.is_none() {
            return Ok(None);
        }
        return Err(unusable("there are files for TLS, and an address that does not ask for it")
            .with_fix("write the address as `amqps://host:5671`, or leave the files out"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable("TLS cannot be set up").with_source(cause))?
        .with_root_certificates(roots(trust.authorities.as_deref())?);
    let config = match &trust.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|cause| {
                unusable(format!("no key can be read from {}", key.display())).with_source(cause)
            })?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(|cause| {
                unusable(format!("{} and its key do not fit", certificate.display())).with_source(cause)
            })?
        }
    };
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|cause| {
            let message = format!("{} holds a certificate that is no authority's", file.display());
            unusable(message).with_source(cause)
        })?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable(format!("there is no certificate in {}", file.display()))),
        Err(cause) => {
            let message = format!("no certificate can be read from {}", file.display());
            Err(unusable(message).with_source(cause))
        }
    }
}

fn unusable(message: impl Into<String>) -> Error {
    Error::new(Code::BUS_ADDRESS, message.into())
}

/// Connects. Drops nothing that the driver could make again by itself, because it is not asked to.
pub(crate) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: Option<TlsConnector>,
) -> lapin::Result<Connection> {
    let way = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let host = uri.authority.host.as_str();
        let plain = TcpStream::connect((host, uri.authority.port)).await?;
        plain.set_nodelay(true)?;
        let stream: Box<dyn Both> = match &tls {
            None => Box::new(Compat::new(plain)),
            Some(connector) => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(Compat::new(connector.connect(name, plain).await?))
            }
        };
        Ok(AsyncTcpStream::Plain(stream))
    };
    Connection::connector(uri, Runtime::new(Kit(Tokio::current())), way, properties).await
}

/// A stream in both directions.
pub(crate) trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Stream: AsyncRead + AsyncWrite + Send + Unpin> Both for Stream {}

/// Tokio, with [`Both`] for its streams.
#[derive(Clone, Debug)]
struct Kit(Tokio);

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        call: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(call)
    }
}

impl Reactor for Kit {
    type TcpStream = Box<dyn Both>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// The driver makes no sockets of its own.
    fn register<Socket: io::Read + io::Write + Send + 'static>(
        &self,
        _socket: Socket,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Box<dyn Both>, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Box::new(connecting.await?) as Box<dyn Both>) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_for_tls_want_an_address_that_asks_for_it() {
        let file = || PathBuf::from("/nowhere/ca.pem");
        let refused = |url: &str, trust: &Trust| {
            let uri: AMQPUri = url.parse().expect("an address");
            connector(&uri, trust).err().map(|error| (error.code(), error.message().to_owned()))
        };
        let authorities = Trust { authorities: Some(file()), certificate: None };
        let certificate = Trust { authorities: None, certificate: Some((file(), file())) };
        for trust in [&authorities, &certificate] {
            let (code, message) = refused("amqp://host", trust).expect("the files say nothing there");
            assert!(code == Code::BUS_ADDRESS && message.contains("does not ask"), "{message}");
            let (code, message) = refused("amqps://host", trust).expect("they are not there");
            assert!(code == Code::BUS_ADDRESS && message.contains("/nowhere/ca.pem"), "{message}");
        }
        assert_eq!(refused("amqp://host", &Trust::default()), None);
    }
}
