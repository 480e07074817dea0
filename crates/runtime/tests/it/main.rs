//! The runtime as an application sees it: on a store in memory, under virtual time, with misfortune.

mod aggregates;
mod audit;
mod choreography;
mod commands;
mod dead;
mod delivery;
mod door;
mod edits;
mod flows;
mod fork;
mod misuse;
mod past;
mod pressure;
mod projections;
mod rebuild;
mod repetitions;
mod room;
mod saga;
mod schedules;
mod sharing;
mod snapshots;
mod timers;
mod transaction;
mod traps;
mod upcasting;
mod words;
