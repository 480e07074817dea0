//! `ensue dead redrives`: how redrives go on, and how those of the last seven days have ended.

use ensue::runtime::dead;

use super::row::UnderWay;
use crate::command::Session;
use crate::failure::Failure;

/// Lists them, those that are open first.
pub(crate) async fn run(session: &mut Session) -> Result<(), Failure> {
    let store = session.place.open().await?;
    let redrives: Vec<UnderWay> = dead::redrives(&store).await?.into_iter().map(UnderWay).collect();
    session.output.all(&redrives)?;
    Ok(())
}
