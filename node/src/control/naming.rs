//! What a document or a space may be called: only what a command can mean afterwards. What others have given as a name is
//! listed as it is.

use std::collections::BTreeSet;

use anabranch::limits::{DOCUMENT_NAME_BYTES_MAX, SPACE_NAME_BYTES_MAX};
use anabranch::{DocumentId, Space};
use unicode_normalization::UnicodeNormalization as _;

use crate::control::Control;
use crate::failure::Failure;
use crate::show::short;

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
pub(super) fn check_new(space: &Space, name: &str, own: Option<DocumentId>, force: bool) -> Result<(), Failure> {
    check_document(name)?;
    if let Ok(id) = name.parse::<DocumentId>()
        && space.info(&id).is_some()
    {
        return Err(Failure::usage(format!("`{name}` is the id of a document here")));
    }
    match space.find(name).into_iter().find(|id| Some(*id) != own) {
        Some(other) if !force => Err(Failure::usage(format!(
            "there is a document `{name}` here already ({}): take another name, or have two of that name with --force",
            short(&other.to_string()),
        ))),
        Some(_) | None => Ok(()),
    }
}

/// As [`check_new`], for several names that are to be given together.
pub(super) fn check_all_new(space: &Space, names: &[String], force: bool) -> Result<(), Failure> {
    let documents = space.list();
    let ids: BTreeSet<DocumentId> = documents.iter().map(|info| info.document).collect();
    let normal = |name: &str| name.nfc().collect::<String>();
    let mut taken: BTreeSet<String> =
        documents.iter().filter_map(|info| info.summary.name.as_deref()).map(normal).collect();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            continue;
        }
        let place = |failure: Failure| Failure { message: format!("line {}: {failure}", index + 1), ..failure };
        check_document(name).map_err(place)?;
        if name.parse().is_ok_and(|id| ids.contains(&id)) {
            return Err(place(Failure::usage(format!("`{name}` is the id of a document here"))));
        }
        if !taken.insert(normal(name)) && !force {
            return Err(place(Failure::usage(format!(
                "there is a document `{name}` already, here or among these names: take another name, or have two of that name with --force"
            ))));
        }
    }
    Ok(())
}

impl Control {
    /// As [`check_new`], for a space of this replica.
    pub(super) fn check_new_space(&self, name: &str, force: bool) -> Result<(), Failure> {
        check("space", name, SPACE_NAME_BYTES_MAX)?;
        let is_it = |other: &str| other.nfc().eq(name.nfc());
        let other = self.peer.spaces().into_iter().find(|space| space.name.as_deref().is_some_and(is_it));
        match other {
            Some(other) if !force => Err(Failure::usage(format!(
                "there is a space `{name}` here already ({}): take another name, or have two of that name with --force",
                short(&other.space.to_string()),
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
