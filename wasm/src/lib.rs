//! Anabranch for the browser: the same library, compiled to WebAssembly. For now it is what Rust code in a worker can use
//! directly; the surface for JavaScript comes with the browser's storage and transports.

#[doc(inline)]
pub use anabranch::*;
