//! Commands of aggregates: loaded, decided, and worked into inline read models.

use std::sync::Arc;

use ensue_core::{Aggregate, BoxFuture, CommandSet, Failure};

use super::{Answer, Answered, Call, Route};
use crate::aggregate::Aggregates;
use crate::effects::Effects;
use crate::policy::Settings;

/// One route for each command of the aggregate.
pub(crate) fn aggregate_routes<A: Aggregate>() -> Vec<Route> {
    let run: Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Answered, Failure>> + Send + Sync> =
        Arc::new(|call| Box::pin(decide::<A>(call)));
    let causes = <A::Event as ensue_core::EventSet>::types();
    A::Command::types()
        .into_iter()
        .map(|info| Route {
            info,
            is_aggregate: true,
            joins: false,
            causes: causes.clone(),
            settings: Settings::HANDLER,
            run: Arc::clone(&run),
        })
        .collect()
}

/// Loads the aggregate, has it decide, and works out what that changes in inline read models.
async fn decide<A: Aggregate>(call: Call) -> Result<Answered, Failure> {
    let Call { context, shared, origin } = &call;
    let envelope = &context.recorded.envelope;
    let command =
        A::Command::decode(envelope.event_type.as_str(), &envelope.data).map_err(Failure::Rejected)?;
    let key = command.key();
    let loaded = Aggregates::<A>::new(shared.store.clone()).load(&key).await.map_err(Failure::Failed)?;
    loaded.note_snapshot(&key, &shared.snapshots).map_err(Failure::Rejected)?;
    let decided = loaded.decide(&key, command, &shared.press, origin).map_err(Failure::Rejected)?;
    let (answer, (append, snapshot)) = match decided {
        Ok(changes) => (Ok(()), changes),
        Err(refusal) => (Err(refusal), (None, None)),
    };
    let mut effects = Effects::default();
    if let Some(mut append) = append {
        effects = shared.inline.project(&*shared.store, &mut append).await?;
        effects.appends.push(append);
    }
    effects.records.extend(snapshot);
    let answer = Answer::of(envelope.event_type.as_str(), &answer).map_err(Failure::Rejected)?;
    Ok(Answered { answer, effects })
}
