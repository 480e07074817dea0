//! Links between logs, over a broker in memory: nothing lost, nothing twice, each key in order, whatever happens to either side.

mod foreign;
mod intake;
mod loops;
mod operators;
mod relay;
mod saga;
mod unreadable;
mod words;
