//! The fuzz bodies, taken in by their path: the crate that they belong to needs the network.

#[path = "../../src"]
mod tests {
    pub(crate) mod fuzz;
}

pub use tests::fuzz::*;
