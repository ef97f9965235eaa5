//! Which peer to talk to, when, about what. Four levels, each idempotent and restartable from nothing: the members, which
//! documents differ, what each side lacks of them, the runs. What is remembered only saves round trips.

pub mod admission;
pub mod collection;
pub mod dialer;
pub mod hint;
pub mod lanes;
pub(crate) mod left_out;
pub mod rate;
pub(crate) mod recent;
pub mod reconcile;
pub mod session;
pub mod transfer;
