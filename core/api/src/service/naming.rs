//! What a document or a space may be called: only what a command can mean afterwards. What others have given as a name is
//! listed as it is.

use std::collections::BTreeSet;

use anabranch::limits::{DOCUMENT_NAME_BYTES_MAX, SPACE_NAME_BYTES_MAX};
use anabranch::{DocumentId, Event, Events, Lagged, Space};
use futures::{FutureExt as _, StreamExt as _};
use unicode_normalization::UnicodeNormalization as _;

use crate::Failure;
use crate::service::Service;
use crate::service::reserved::{Reservation, normal};

/// Refuses a name for a document that no command could mean, or that would mean something else.
pub(super) fn check_document(name: &str) -> Result<(), Failure> {
    check("document", name, DOCUMENT_NAME_BYTES_MAX)
}

/// The same for a document or a space, as `what` says.
fn check(what: &str, name: &str, bytes_max: usize) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::usage(format!("a {what}'s name is empty: leave it out, or give one")));
    }
    if name.len() > bytes_max {
        let bytes = name.len();
        return Err(Failure::usage(format!("a {what}'s name is {bytes} bytes, limit {bytes_max}")));
    }
    if let Some(control) = name.chars().find(|character| character.is_control()) {
        return Err(Failure::usage(format!("a {what}'s name has the control character {control:?}")));
    }
    for prefix in ["id:", "name:"] {
        if name.starts_with(prefix) {
            let text =
                format!("a {what}'s name begins with `{prefix}`, which says in commands how what follows is meant");
            return Err(Failure::usage(text));
        }
    }
    Ok(())
}

/// Refuses a name for a document of this space that others would be confused by. `own` is the document that is to have it, if
/// it is there already. `force` allows the same name once more.
fn check_new(space: &Space, name: &str, own: Option<DocumentId>, force: bool) -> Result<(), Failure> {
    check_form(space, name)?;
    if force {
        return Ok(());
    }
    match space.find(name).into_iter().find(|id| Some(*id) != own) {
        Some(other) => Err(Failure::usage(format!(
            "there is a document `{name}` here already ({other:.8}): take another name, or have two of that name with --force",
        ))),
        None => Ok(()),
    }
}

/// Refuses a name that could not be meant in this space.
fn check_form(space: &Space, name: &str) -> Result<(), Failure> {
    check_document(name)?;
    match name.parse::<DocumentId>() {
        Ok(id) if space.info(&id).is_some() => Err(Failure::usage(format!("`{name}` is the id of a document here"))),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The names that documents of a space have or had while many are made: to look through all documents for each new one would
/// take time in the square of how many there are.
pub(super) struct Taken {
    space: Space,
    /// In normal form.
    names: BTreeSet<String>,
    /// They say where names may have come since.
    events: Events,
    /// Documents that were changed since the last commit, and between that and the one before: a name is known from the
    /// commit that saves it, and one that was under way already does not.
    changed: BTreeSet<DocumentId>,
    committing: BTreeSet<DocumentId>,
}

impl Taken {
    /// As of now. `given` finds the names that are being given.
    pub(super) fn of(space: &Space, given: impl FnOnce() -> BTreeSet<String>) -> Self {
        // In this order, so that none is missed: one that is not being given any more is saved, and one that will be is announced.
        let events = space.peer().events();
        let mut taken = Self {
            space: space.clone(),
            names: given(),
            events,
            changed: BTreeSet::new(),
            committing: BTreeSet::new(),
        };
        taken.add_all();
        taken
    }

    fn add_all(&mut self) {
        self.names.extend(self.space.list().into_iter().filter_map(|info| info.summary.name).map(|name| normal(&name)));
    }

    /// Looks at what was changed since the last time.
    fn catch_up(&mut self) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            match event {
                Ok(Event::DocumentChanged { space, document, .. }) if space == self.space.id() => {
                    self.changed.insert(document);
                }
                Ok(Event::Committed(_)) => {
                    let name = |document| self.space.info(document)?.summary.name;
                    let names = self.changed.union(&self.committing).filter_map(name);
                    self.names.extend(names.map(|name| normal(&name)));
                    self.committing = std::mem::take(&mut self.changed);
                }
                Ok(_) => {}
                Err(Lagged(_)) => self.add_all(),
            }
        }
    }

    /// As [`check_new`], for a document that is not there yet.
    pub(super) fn check_new(&mut self, name: &str, force: bool) -> Result<(), Failure> {
        self.catch_up();
        if self.names.contains(&normal(name)) {
            // Whether it still is, and by which.
            return check_new(&self.space, name, None, force);
        }
        check_form(&self.space, name)
    }

    /// As [`check_new`], for several names that are to be given together.
    pub(super) fn check_all_new(&self, names: &[String], force: bool) -> Result<(), Failure> {
        let mut given = BTreeSet::new();
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let place = |failure: Failure| Failure { message: format!("line {}: {failure}", index + 1), ..failure };
            check_form(&self.space, name).map_err(place)?;
            let normal = normal(name);
            if !force && (self.names.contains(&normal) || !given.insert(normal)) {
                return Err(place(Failure::usage(format!(
                    "there is a document `{name}` already, here or among these names: take another name, or have two of that name with --force"
                ))));
            }
        }
        Ok(())
    }
}

impl Service {
    /// Reserves a name for a document of this space, and refuses it as [`check_new`] does. With `force` there is nothing to reserve.
    pub(super) async fn reserve(
        &self,
        space: &Space,
        name: &str,
        own: Option<DocumentId>,
        force: bool,
    ) -> Result<Option<Reservation>, Failure> {
        if force {
            return check_new(space, name, own, force).map(|()| None);
        }
        // What cannot be given anyway is refused at once.
        check_new(space, name, own, force)?;
        let reservation = self.shared.reserved.reserve(Some(space.id()), name).await?;
        // It may have been given while this waited.
        check_new(space, name, own, force)?;
        Ok(Some(reservation))
    }

    /// The same for a space.
    pub(super) async fn reserve_space(&self, name: &str, force: bool) -> Result<Option<Reservation>, Failure> {
        self.check_new_space(name, force)?;
        if force {
            return Ok(None);
        }
        let reservation = self.shared.reserved.reserve(None, name).await?;
        self.check_new_space(name, force)?;
        Ok(Some(reservation))
    }

    /// As [`check_new`], for a space of this replica.
    fn check_new_space(&self, name: &str, force: bool) -> Result<(), Failure> {
        check("space", name, SPACE_NAME_BYTES_MAX)?;
        let is_it = |other: &str| other.nfc().eq(name.nfc());
        let other = self.peer().spaces().into_iter().find(|space| space.name.as_deref().is_some_and(is_it));
        match other {
            Some(other) if !force => Err(Failure::usage(format!(
                "there is a space `{name}` here already ({:.8}): take another name, or have two of that name with --force",
                other.space,
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_command_could_mean_is_refused_with_the_reason() {
        let refused = |name: &str| check_document(name).unwrap_err().message;
        assert!(refused("").contains("is empty"));
        assert_eq!(refused(&"n".repeat(300)), "a document's name is 300 bytes, limit 255");
        let space = check("space", &"n".repeat(129), SPACE_NAME_BYTES_MAX).unwrap_err().message;
        assert_eq!(space, "a space's name is 129 bytes, limit 128");
        assert!(refused("a\nb").contains(r"control character '\n'"));
        assert!(refused("\u{9b}31m").contains("control character"));
        assert!(refused("id:plan").contains("begins with `id:`"));
        assert!(refused("name:plan").contains("begins with `name:`"));
    }

    #[test]
    fn a_name_may_look_like_anything_else() {
        for name in ["plan", "2026/05", "-", "2024", "5d41402abc4b2a76b9719d911017c592", "caf\u{e9}", " ", "a b"] {
            check_document(name).unwrap();
        }
    }
}
