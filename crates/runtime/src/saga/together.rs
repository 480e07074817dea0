//! Steps that are taken together: all are begun in one commit, all are waited for, and every failure is told.

use ensue_core::BoxFuture;
use std::future::IntoFuture;

use super::step::SagaError;

/// Steps that [`Saga::all`](super::Saga::all) takes: a `Vec` of steps of one sort, or a tuple of up to four.
pub trait Together: Send {
    /// Their results, in the same shape.
    type Output: Send;

    #[doc(hidden)]
    fn together(self) -> BoxFuture<'static, Result<Self::Output, SagaError>>;
}

impl<S, T> Together for Vec<S>
where
    S: IntoFuture<Output = Result<T, SagaError>> + Send,
    S::IntoFuture: Send + 'static,
    T: Send + 'static,
{
    type Output = Vec<T>;

    fn together(self) -> BoxFuture<'static, Result<Vec<T>, SagaError>> {
        let mut steps: Vec<_> = self
            .into_iter()
            .map(|step| futures_util::future::maybe_done(step.into_future()))
            .map(Box::pin)
            .collect();
        Box::pin(async move {
            // In their order, each once in a turn: that order is the one on record.
            futures_util::future::poll_fn(|context| {
                let mut is_done = true;
                for step in &mut steps {
                    is_done &= step.as_mut().poll(context).is_ready();
                }
                if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            let mut results = Vec::new();
            let mut failures = Vec::new();
            for mut step in steps {
                match step.as_mut().take_output() {
                    Some(Ok(result)) => results.push(result),
                    Some(Err(failure)) => failures.push(failure),
                    None => {}
                }
            }
            SagaError::together(failures).map_or(Ok(results), Err)
        })
    }
}

macro_rules! together {
    ($join:ident: $($step:ident $result:ident $value:ident),+) => {
        impl<$($step, $result),+> Together for ($($step,)+)
        where
            $($step: IntoFuture<Output = Result<$result, SagaError>> + Send, $step::IntoFuture: Send + 'static,)+
            $($result: Send + 'static,)+
        {
            type Output = ($($result,)+);

            fn together(self) -> BoxFuture<'static, Result<Self::Output, SagaError>> {
                let ($($value,)+) = self;
                let steps = futures_util::future::$join($($value.into_future()),+);
                Box::pin(async move {
                    match steps.await {
                        ($(Ok($value),)+) => Ok(($($value,)+)),
                        ($($value,)+) => {
                            let failures = [$($value.err()),+].into_iter().flatten().collect();
                            Err(SagaError::together(failures).expect("one of them has failed"))
                        }
                    }
                })
            }
        }
    };
}

together!(join: A RA a, B RB b);
together!(join3: A RA a, B RB b, C RC c);
together!(join4: A RA a, B RB b, C RC c, D RD d);
