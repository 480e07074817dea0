//! What goes over the border of a process, seen from outside the crate.

mod cloudevents_bindings;
mod cloudevents_refusals;
mod cloudevents_round_trip;
mod cloudevents_specification;
mod plain_shapes;
