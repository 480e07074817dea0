//! Read models in tables, in the runtime as it ships: in the file of the log and in another one.

mod crashes;
mod elsewhere;
mod refused;
mod switched;
mod words;
