//! `View`: how a document is read, now or at an earlier version.

/// A document as it is, or was.
pub struct View<'a>(core::marker::PhantomData<&'a ()>);
