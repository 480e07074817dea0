//! The readable head: told at once by whoever commits here, looked up for what others append.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensue_core::{Error, Position};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::attributes::{column, number};
use crate::partitions::Partitions;
use crate::pool::Pool;

/// What is known of the head. However many wait, it is looked up once in an interval.
pub(crate) struct Head {
    known: watch::Sender<Position>,
    looked_up: Mutex<Option<Instant>>,
}

impl Head {
    pub(crate) fn new() -> Self {
        Self { known: watch::Sender::new(Position::ZERO), looked_up: Mutex::default() }
    }

    /// Wakes whoever waits for this position.
    pub(crate) fn tell(&self, head: Position) {
        self.known.send_if_modified(|known| {
            let is_news = head > *known;
            *known = head.max(*known);
            is_news
        });
    }

    /// The head as the database has it, after what others have committed was given its positions: step by step, each of which stays and is
    /// told, so that a long backlog is not begun from anew when something breaks off. With it, where events up to it are.
    pub(crate) async fn look_up(&self, pool: &Arc<Pool>) -> Result<(Position, Partitions), Error> {
        let sql = "SELECT head, is_behind, partitions, topics, afters, untils FROM ensue.look_up()";
        loop {
            let rows = pool.rows("cannot read the head", sql, Vec::new()).await?;
            let Some(row) = rows.first() else { return Ok((Position::ZERO, Partitions::default())) };
            let head = Position(number(column(row, 0)?));
            self.tell(head);
            if !column::<bool>(row, 1)? {
                return Ok((head, Partitions::of(row)?));
            }
        }
    }

    /// Resolves once the head is past `after`.
    pub(crate) async fn past(&self, after: Position, pool: &Arc<Pool>) -> Result<Position, Error> {
        let mut known = self.known.subscribe();
        let told = async {
            let head = known.wait_for(|head| *head > after).await;
            *head.expect("the sender lives in this head")
        };
        tokio::select! {
            biased;
            head = told => Ok(head),
            looked_up = self.look_out(after, pool) => looked_up,
        }
    }

    /// Looks it up again and again.
    async fn look_out(&self, after: Position, pool: &Arc<Pool>) -> Result<Position, Error> {
        let interval = pool.config().poll_interval;
        loop {
            if self.is_due(interval) {
                let (head, _) = self.look_up(pool).await?;
                if head > after {
                    return Ok(head);
                }
            }
            let mut known = self.known.subscribe();
            let _news_or_time = timeout(interval, known.changed()).await;
        }
    }

    /// Whether nobody has begun to look within the interval; then the caller has.
    fn is_due(&self, interval: Duration) -> bool {
        let mut looked_up = self.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked_up.is_none_or(|begun| begun.elapsed() >= interval);
        if is_due {
            *looked_up = Some(Instant::now());
        }
        is_due
    }
}
