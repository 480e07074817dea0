//! Connections in plain text alone, where the feature `tls` is left out.

use ensue_core::{Code, Error};
use tokio_postgres::NoTls;

use crate::address::{Mode, Security};

/// What the driver connects with.
pub(crate) type Connector = NoTls;

/// The connector; refuses an address that asks for TLS.
pub(crate) fn connector(security: &Security) -> Result<Connector, Error> {
    if matches!(security.mode, Mode::Disable | Mode::Prefer) {
        return Ok(NoTls);
    }
    let message = "the address asks for TLS, which this program was built without";
    Err(Error::new(Code::UNSUPPORTED, message).with_fix("build `ensue-postgres` with its feature `tls`"))
}
