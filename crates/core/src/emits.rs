//! What a handler returns is what it causes, and its types are known before it runs.

use crate::error::Error;
use crate::event::{Draft, Event, EventInfo};

/// A value that stands for zero or more events. Derived on enums: `#[derive(Emits)] enum Outcome { Paid(Paid), .. }`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned from a handler",
    note = "return an event, `()`, `Option`, `Vec` or a tuple of those, or an enum with `#[derive(Emits)]`"
)]
pub trait Emits: Send + 'static {
    /// Every event type that can come out.
    fn types() -> Vec<EventInfo>;

    /// Adds the events, in the order in which they are to be appended.
    fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error>;
}

impl Emits for () {
    fn types() -> Vec<EventInfo> {
        Vec::new()
    }

    fn emit(self, _: &mut Vec<Draft>) -> Result<(), Error> {
        Ok(())
    }
}

impl<E: Event> Emits for E {
    fn types() -> Vec<EventInfo> {
        vec![E::INFO]
    }

    fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error> {
        out.push(Draft::of(&self)?);
        Ok(())
    }
}

impl<T: Emits> Emits for Option<T> {
    fn types() -> Vec<EventInfo> {
        T::types()
    }

    fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error> {
        self.map_or(Ok(()), |inner| inner.emit(out))
    }
}

impl<T: Emits> Emits for Vec<T> {
    fn types() -> Vec<EventInfo> {
        T::types()
    }

    fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error> {
        self.into_iter().try_for_each(|inner| inner.emit(out))
    }
}

macro_rules! tuple {
    ($($name:ident)+) => {
        impl<$($name: Emits),+> Emits for ($($name,)+) {
            fn types() -> Vec<EventInfo> {
                [$($name::types()),+].concat()
            }

            #[expect(non_snake_case, reason = "the type parameters name the values")]
            fn emit(self, out: &mut Vec<Draft>) -> Result<(), Error> {
                let ($($name,)+) = self;
                $($name.emit(out)?;)+
                Ok(())
            }
        }
    };
}

tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
