//! The local API of a replica, as data: every request, every answer, codes of errors, and a service that answers over a
//! [`Peer`](https://docs.rs/anabranch). Whoever carries them (the node's socket, HTTP, a browser's worker) is above.
//!
//! With the feature `service`, which is on by default, there is the [`Service`]; without it only what both sides say.
#![cfg_attr(
    feature = "service",
    doc = r#"
```
# futures::executor::block_on(async {
use anabranch::Peer;
use anabranch_api::{Caller, Command, Line, SameThread, Service};
use futures::StreamExt as _;

let peer = Peer::builder().open().await?;
let service = Service::new(peer.clone(), SameThread);
let request: Command = serde_json::from_str("{\"do\":\"space-create\",\"name\":\"notes\"}")?;
let mut answer = service.call(Caller::Owner, request, Vec::new());
while let Some(line) = answer.next().await {
    match line {
        Line::Item(one) | Line::Ok(one) => println!("{}", serde_json::to_string(&one)?),
        Line::Error(failure) => return Err(failure.into()),
    }
}
# peer.shutdown().await;
# Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
```
"#
)]

mod answer;
mod failure;
mod request;
#[cfg(feature = "service")]
mod service;
mod wire;

pub use answer::*;
pub use failure::{Code, Failure};
pub use request::{Command, EditStep, NAME_KEY, Reading, Since, Sort, Strings, Take, Which};
#[cfg(feature = "service")]
pub use service::{Answer, Caller, Conversation, Host, Job, SameThread, Service};
pub use wire::{HELLO_BYTES_MAX, Hello, LINE_BYTES_MAX, Malformed, PROTOCOL, Side, decode, encode};

/// JSON text of one import.
pub const IMPORT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pieces of text in an export are about this long.
pub const EXPORT_PIECE_BYTES: usize = 1024 * 1024;

/// Refuses an import of more bytes than [`IMPORT_BYTES_MAX`].
///
/// # Errors
/// With both numbers.
pub fn check_import_bytes(bytes: usize) -> Result<(), Failure> {
    if bytes > IMPORT_BYTES_MAX {
        return Err(Failure::usage(format!("the JSON is {bytes} bytes, limit {IMPORT_BYTES_MAX}")));
    }
    Ok(())
}
