//! How far a flow is by its declaration alone: from the types of its events, without knowing what is in hand.

use serde::{Deserialize, Serialize};

use crate::catalogue::FlowEntry;

/// How far a flow is by what its kind declares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// None of its ends has come.
    Open,
    /// It has failed, and what is done has to be undone.
    Undoing,
    /// Something happened that needs a person.
    Attention,
    /// It has ended in a failure.
    Failed,
    /// It has ended as planned; also a flow whose kind declares no end.
    Done,
}

impl Stage {
    /// Of a flow that begins. One without a declared end is over whenever nothing is in hand.
    pub(super) fn at_start(declared: Option<&FlowEntry>) -> Self {
        if declared.is_some_and(FlowEntry::has_ends) { Self::Open } else { Self::Done }
    }

    /// After one more event.
    pub(super) fn after(self, declared: Option<&FlowEntry>, event_type: &str) -> Self {
        let Some(declared) = declared else { return self };
        let is_in = |types: &[String]| types.iter().any(|known| known == event_type);
        let is_undoing = matches!(self, Self::Undoing | Self::Attention);
        if is_in(&declared.attention) {
            Self::Attention
        } else if is_in(&declared.ends) {
            Self::Done
        } else if is_undoing && declared.undone.values().any(|undone| undone == event_type) {
            Self::Failed
        } else if !is_in(&declared.fails) {
            self
        } else if declared.undone.contains_key(event_type) {
            Self::Undoing
        } else {
            Self::Failed
        }
    }

    /// Whether no person has to decide.
    pub(super) fn is_free(self) -> bool {
        self != Self::Attention
    }

    /// Whether the declaration expects nothing more.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::Failed | Self::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> FlowEntry {
        FlowEntry {
            ends: vec!["Notified".to_owned()],
            fails: vec!["Declined".to_owned(), "Unshipped".to_owned()],
            undone: [("Unshipped".to_owned(), "Refunded".to_owned())].into(),
            attention: vec!["RefundFailed".to_owned()],
            ..FlowEntry::default()
        }
    }

    fn through(types: &[&str]) -> Stage {
        let order = order();
        let start = Stage::at_start(Some(&order));
        types.iter().fold(start, |stage, event_type| stage.after(Some(&order), event_type))
    }

    #[test]
    fn an_end_a_failure_and_an_undone_failure_are_ends_and_nothing_else_is() {
        assert_eq!(through(&["Paid"]), Stage::Open);
        assert_eq!(through(&["Paid", "Notified"]), Stage::Done);
        assert_eq!(through(&["Declined"]), Stage::Failed);
        assert_eq!(through(&["Paid", "Unshipped"]), Stage::Undoing);
        assert_eq!(through(&["Paid", "Unshipped", "Refunded"]), Stage::Failed);
        assert_eq!(through(&["Paid", "Unshipped", "RefundFailed"]), Stage::Attention);
        assert_eq!(through(&["Paid", "Unshipped", "RefundFailed", "Refunded"]), Stage::Failed);
        assert_eq!(through(&["Paid", "Refunded"]), Stage::Open, "nothing had failed");
        assert_eq!(Stage::at_start(None), Stage::Done);
        assert!(Stage::Failed.is_end() && !Stage::Undoing.is_end() && !Stage::Attention.is_end());
    }
}
