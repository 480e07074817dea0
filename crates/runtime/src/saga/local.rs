//! The sagas that run in this process, so that the answer to a command and the turn it leads to are one commit.
//!
//! Only a shortcut: an answer that finds no saga here goes into the instance's stream, and is delivered from there.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use ensue_core::{Append, Envelope, Expected, StreamName};

use super::SagaHandler;
use crate::effects::Effects;

/// Sagas by the topic of their streams. They hold on to what holds this, so they are held weakly.
#[derive(Default)]
pub(crate) struct Sagas(RwLock<HashMap<String, Weak<SagaHandler>>>);

impl Sagas {
    /// From now on answers for instances of this saga are taken here.
    pub(crate) fn enter(&self, saga: &Arc<SagaHandler>) {
        let mut sagas = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sagas.insert(saga.subscription().to_owned(), Arc::downgrade(saga));
    }

    /// What the answer to a command changes: it is put into the stream of the instance that waits for it, with the turn
    /// that follows if the saga runs here.
    pub(crate) async fn deliver(&self, stream: StreamName, answer: Envelope) -> Effects {
        let saga = {
            let sagas = self.0.read().unwrap_or_else(PoisonError::into_inner);
            sagas.get(stream.topic.as_str()).and_then(Weak::upgrade)
        };
        let turn = match saga {
            Some(saga) => saga.answered(&stream, answer.clone()).await,
            None => None,
        };
        turn.unwrap_or_else(|| {
            let append = Append { stream, expected: Expected::Any, events: vec![answer] };
            Effects { appends: vec![append], ..Effects::default() }
        })
    }
}
