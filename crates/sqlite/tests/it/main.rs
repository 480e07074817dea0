//! Tests of the store on a real file, each in a folder of its own. No service is needed.

mod contract;
mod given;
