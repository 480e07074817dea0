//! What was asked to go wrong.

use std::collections::HashMap;
use std::time::Duration;

use ensue_core::Error;

use crate::SeededEntropy;

/// The misfortunes of a broker in memory, and how often they have struck.
pub(super) struct Luck {
    pub(super) is_down: bool,
    pub(super) is_paused: bool,
    pub(super) refused: HashMap<String, Error>,
    /// Why nothing can be declared.
    pub(super) undeclarable: Option<Error>,
    pub(super) lose_confirmations: usize,
    pub(super) lose_settlements: usize,
    pub(super) deliver_times: u32,
    pub(super) reorder: Option<SeededEntropy>,
    pub(super) slow: Duration,
    pub(super) strikes: usize,
}

impl Default for Luck {
    fn default() -> Self {
        Self {
            is_down: false,
            is_paused: false,
            refused: HashMap::new(),
            undeclarable: None,
            lose_confirmations: 0,
            lose_settlements: 0,
            deliver_times: 1,
            reorder: None,
            slow: Duration::ZERO,
            strikes: 0,
        }
    }
}

impl Luck {
    /// Whether one more confirmation gets lost.
    pub(super) fn loses_confirmation(&mut self) -> bool {
        let loses = self.lose_confirmations > 0;
        self.lose_confirmations = self.lose_confirmations.saturating_sub(1);
        self.strikes += usize::from(loses);
        loses
    }

    /// Whether one more settlement gets lost.
    pub(super) fn loses_settlement(&mut self) -> bool {
        let loses = self.lose_settlements > 0;
        self.lose_settlements = self.lose_settlements.saturating_sub(1);
        self.strikes += usize::from(loses);
        loses
    }
}
