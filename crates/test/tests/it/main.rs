//! Integration tests of the test kit: the tools are tried on stores and code that are right, and on some that are not.

mod broker;
mod contract;
mod decisions;
mod defects;
mod faults;
mod handles;
mod histories;
mod misfortunes;
mod programs;
