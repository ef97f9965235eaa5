//! `Edit`: how an application changes a document. It counts what is done and refuses what a peer's gate would refuse.

/// The document inside `edit`.
pub struct Edit<'a>(core::marker::PhantomData<&'a ()>);

/// Why an edit was not made. The document is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {}
