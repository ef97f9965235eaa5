//! A hostile client against real nodes: it speaks the session protocol by hand, says what no honest program says, and what it
//! costs the others is measured.
//!
//! An [`attack`] says who makes it and what it may cost. Its [`course`] is always the same: a fresh [`stage`] of nodes, an
//! [`honest`] writer who works all the time, a quiet time, the attack, and what is left of it afterwards. What an attack costs
//! and what it is held to is in [`figures`]; what it does on the wire goes through a [`client`].

pub mod attack;
pub mod attacks;
pub mod client;
pub mod course;
pub mod figures;
pub mod honest;
pub mod scene;
pub mod stage;
