//! What connections are made of: the one place that differs between a native program and a browser.

#[cfg(not(target_arch = "wasm32"))]
mod doorstep;
#[cfg(not(target_arch = "wasm32"))]
mod everywhere;
#[cfg(not(target_arch = "wasm32"))]
mod interfaces;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
mod stall;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use interfaces::Interfaces;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;

#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(target_arch = "wasm32")]
pub(crate) use browser::*;
