//! Takes orders in: those that arrive while a transaction is under way share the next one.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_postgres::Client;

use super::{BATCH_MAX, table};
use crate::Failure;
use crate::course::Entry;

/// An order, and whom to tell that it is durable.
pub(super) struct Placed {
    order: u64,
    durable: oneshot::Sender<()>,
}

/// Where orders go in.
pub(super) struct Intake(pub(super) mpsc::Sender<Placed>);

impl Entry for Intake {
    async fn place(&self, order: u64) -> Result<(), Failure> {
        let (durable, is_durable) = oneshot::channel();
        self.0.send(Placed { order, durable }).await.map_err(|_| "the intake ended")?;
        Ok(is_durable.await?)
    }
}

/// Writes orders until nobody places any more.
pub(super) async fn run(
    client: Client,
    hint: Arc<Notify>,
    mut placed: mpsc::Receiver<Placed>,
) -> Result<(), Failure> {
    let place = table::prepare(&client, table::PLACE).await?;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while placed.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let keys: Vec<String> = batch.iter().map(|placed| placed.order.to_string()).collect();
        let payloads: Vec<String> = keys.iter().map(|key| format!(r#"{{"order":"{key}"}}"#)).collect();
        client.execute(&place, &[&keys, &payloads]).await?;
        hint.notify_one();
        for placed in batch.drain(..) {
            // Whoever placed it may have gone; the order stays.
            placed.durable.send(()).ok();
        }
    }
    Ok(())
}
