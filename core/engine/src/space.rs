//! One space: its members, its collection, its documents.

pub mod auth;
pub mod membership;
pub mod roles;
pub mod ticket;
