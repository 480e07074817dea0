//! The readable head: told at once by whoever commits here, looked up for what others append.
//!
//! It never goes back, unless the log has lost its end: then what this process remembers is not true any more, and all calls fail from
//! there on (`E0418`).

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ensue_core::{Code, Error, Position};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::attributes::{column, number};
use crate::partitions::Partitions;
use crate::pool::Pool;

/// What is known of the head. However many wait, it is looked up once in an interval.
pub(crate) struct Head {
    known: watch::Sender<Position>,
    looked_up: Mutex<Option<Instant>>,
    /// Whether standbys are read, which may follow their primary at different distances.
    reads_standbys: bool,
    /// Why nothing is done any more.
    lost: OnceLock<Error>,
}

impl Head {
    pub(crate) fn new(reads_standbys: bool) -> Self {
        let known = watch::Sender::new(Position::ZERO);
        Self { known, looked_up: Mutex::default(), reads_standbys, lost: OnceLock::new() }
    }

    /// Wakes whoever waits for this position.
    pub(crate) fn tell(&self, head: Position) {
        self.known.send_if_modified(|known| {
            let is_news = head > *known;
            *known = head.max(*known);
            is_news
        });
    }

    /// Up to where the log reached, to whoever asks it afterwards. `E0418` where it was found to reach less far.
    pub(crate) fn seen(&self) -> Result<Position, Error> {
        self.lost.get().map_or_else(|| Ok(*self.known.borrow()), |error| Err(error.clone()))
    }

    /// `E0418` where the log ends before what was seen before it was asked.
    pub(crate) fn check(&self, seen: Position, head: Position) -> Result<(), Error> {
        if head >= seen {
            return Ok(());
        }
        let message = format!("the log ends at position {head}, and this process has seen it end at {seen}");
        Err(self.lost.get_or_init(|| Error::new(Code::LOST_TAIL, message)).clone())
    }

    /// The same of who may be a standby that has not come as far yet: then it is asked again (`E0421`).
    fn check_standby(&self, seen: Position, head: Position, is_standby: bool) -> Result<(), Error> {
        match is_standby {
            false => self.check(seen, head),
            true if head >= seen || self.reads_standbys => Ok(()),
            true => {
                let message = format!(
                    "a standby answers, which has received the log up to position {head} and not yet up to {seen}"
                );
                Err(Error::new(Code::DATABASE_UNREACHABLE, message))
            }
        }
    }

    /// The head as the database has it, after what others have committed was given its positions: step by step, each of which stays and is
    /// told, so that a long backlog is not begun from anew when something breaks off. With it, where events up to it are.
    pub(crate) async fn look_up(&self, pool: &Arc<Pool>) -> Result<(Position, Partitions), Error> {
        let sql = "SELECT head, is_behind, partitions, topics, afters, untils, pg_catalog.pg_is_in_recovery() FROM ensue.look_up()";
        loop {
            let seen = self.seen()?;
            let rows = pool.rows("cannot read the head", sql, Vec::new()).await?;
            let Some(row) = rows.first() else { return Ok((Position::ZERO, Partitions::default())) };
            let head = Position(number(column(row, 0)?));
            self.check_standby(seen, head, column(row, 6)?)?;
            self.tell(head);
            if !column::<bool>(row, 1)? {
                return Ok((head, Partitions::of(row)?));
            }
        }
    }

    /// Resolves once the head is past `after`.
    pub(crate) async fn past(&self, after: Position, pool: &Arc<Pool>) -> Result<Position, Error> {
        self.seen()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_is_behind_is_asked_again_and_a_log_without_its_end_is_not() {
        let head = Head::new(false);
        head.tell(Position(5));
        let seen = head.seen().expect("nothing is lost");
        let behind = head.check_standby(seen, Position(3), true).expect_err("it has not received all");
        assert_eq!((behind.code(), behind.is_retryable()), (Code::DATABASE_UNREACHABLE, true));
        assert_eq!(head.seen().expect("and nothing is lost"), Position(5));
        Head::new(true).check_standby(seen, Position(3), true).expect("standbys are read");
        let lost = head.check_standby(seen, Position(3), false).expect_err("this one has lost it");
        assert_eq!((lost.code(), lost.is_retryable()), (Code::LOST_TAIL, false));
        assert_eq!(head.seen().expect_err("for good").code(), Code::LOST_TAIL);
    }
}
