//! The runtime as an application sees it: on a store in memory, under virtual time, with misfortune.

mod choreography;
mod commands;
mod delivery;
mod saga;
mod words;
