//! How a document comes from the store into memory, one room for the whole walk:
//!
//! 1. its runs are read, a page at a time;
//! 2. they are built into a document, by heavy work on another thread;
//! 3. if something is missing or damaged, from step 1 on once more, with what is readable (`mending.rs`);
//! 4. what arrived meanwhile is merged, and whoever waited for the document is answered;
//! 5. runs that a mending left in the store are read again, as if a peer had brought them (`leftovers.rs`).
//!
//! Runs that a process died of while it merged them are left out or tried alone (`poison.rs`).

mod leftovers;
mod mending;
mod poison;
