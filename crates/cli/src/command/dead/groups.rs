//! `ensue dead groups`: dead letters by cause, so that one mistake is one row.

use ensue::runtime::dead;

use super::row::OfOneCause;
use crate::command::Session;
use crate::failure::Failure;

/// Lists them, the largest first.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let store = session.place.open().await?;
    let groups: Vec<OfOneCause> = dead::groups(&store).await?.into_iter().map(OfOneCause).collect();
    session.output.all(&groups)?;
    Ok(())
}
