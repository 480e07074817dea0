//! `ensue store retain TOPIC`: how long a topic keeps its events.

use std::time::Duration;

use clap::{ArgGroup, Args};
use ensue::core::Topic;
use jiff::{Span, SpanRelativeTo};
use serde::Serialize;

use super::retention::{in_words, open};
use crate::command::Session;
use crate::failure::Failure;

/// Say how long a topic keeps its events
///
/// Nothing is dropped by this: `ensue store trim` does it. An aggregate needs all of its events, and a read model that is built anew has what the log
/// still has.
#[derive(Args)]
#[command(group = ArgGroup::new("time").required(true).args(["keep", "is_for_ever"]))]
pub(crate) struct Retain {
    /// Which topic
    topic: Topic,
    /// At least so long, such as `30d` or `12h`
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    keep: Option<Duration>,
    /// For ever, as every topic does where nothing was said
    #[arg(long = "for-ever")]
    is_for_ever: bool,
}

#[derive(Serialize)]
struct Retained {
    topic: Topic,
    /// None: for ever.
    keep_seconds: Option<u64>,
}

impl Retain {
    pub(crate) async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Self { topic, keep, .. } = self;
        open(session).await?.retain(&topic, keep).await?;
        let long = keep.map_or_else(|| "for ever".to_owned(), |keep| format!("for {}", in_words(keep)));
        let words = format!("{topic} keeps its events {long}");
        let retained = Retained { topic, keep_seconds: keep.map(|keep| keep.as_secs()) };
        session.output.one(&retained, &words)?;
        Ok(())
    }
}

/// A thousand years, as the server counts them: longer than anybody keeps anything.
const TIME_MAX: Duration = Duration::from_hours(1_000 * 360 * 24);

/// A length of time in weeks, days, hours, minutes and seconds.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("`{}` {why}: write `30d`, `12h` or `90s`", text.escape_debug());
    let span: Span = text.parse().map_err(|_| wrong("is no length of time"))?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let length = length.map_err(|_| wrong("is in months or years, which differ"))?;
    let length = Duration::try_from(length).map_err(|_| wrong("is less than nothing"))?;
    match length {
        length if length < Duration::from_secs(1) => Err(wrong("is less than a second")),
        length if length.subsec_nanos() > 0 => Err(wrong("is not a whole number of seconds")),
        length if length > TIME_MAX => Err(wrong("is more than a thousand years")),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_not_over_before_it_begins() {
        for (text, seconds) in
            [("30d", 2_592_000), ("12h", 43_200), ("1d 12h", 129_600), ("90s", 90), ("2 weeks", 1_209_600)]
        {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, why) in [
            ("", "no length"),
            ("30", "no length"),
            ("soon", "no length"),
            ("-1d", "less than nothing"),
            ("0s", "less than a second"),
            ("10ms", "less than a second"),
            ("1 month", "months or years"),
            ("1.5s", "whole number"),
            ("360001d", "thousand years"),
        ] {
            let refusal = time(text).expect_err(text);
            assert!(refusal.contains(why) && refusal.contains("30d"), "{refusal}");
        }
    }
}
