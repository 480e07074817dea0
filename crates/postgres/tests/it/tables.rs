//! Read models in tables, in the runtime as it ships: in the database of the log and in another one.

mod fed;
mod replaced;
mod words;
