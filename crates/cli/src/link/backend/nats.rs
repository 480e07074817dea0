//! NATS `JetStream`.

use std::sync::Arc;

use ensue::core::{BoxFuture, Bus, Error};
use ensue_nats::Config;

use super::{Connection, refuse};
use crate::link::wrong;

/// Connects; a server that is away is found later.
pub(super) fn open(connection: Connection) -> BoxFuture<'static, Result<Arc<dyn Bus>, Error>> {
    Box::pin(async { Ok(Arc::new(config(connection)?.open().await?) as Arc<dyn Bus>) })
}

fn config(connection: Connection) -> Result<Config, Error> {
    let Connection { url, user, password, token, credentials, authorities, certificate, in_flight } =
        connection;
    refuse("nats", &[("password", password.is_some() && user.is_none())])?;
    let config = Config::new(url);
    let config = match (user, password, token, credentials) {
        (None, None, None, None) => config,
        (Some(user), Some(password), None, None) => config.password(user, password),
        (None, None, Some(token), None) => config.token(token),
        (None, None, None, Some(file)) => config.credentials(file),
        _ => {
            return Err(wrong(
                "a link over nats logs in in more than one way".to_owned(),
                "keep one of user with password, token and credentials_file",
            ));
        }
    };
    let config = authorities.into_iter().fold(config, Config::authorities);
    let config = certificate
        .into_iter()
        .fold(config, |config, (certificate, key)| config.certificate(certificate, key));
    Ok(in_flight.into_iter().fold(config, Config::in_flight_max))
}
