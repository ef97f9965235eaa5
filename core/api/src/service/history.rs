//! The history of documents: their changes, and the difference between two versions.

use anabranch::{ChangeHash, ChangeInfo, DeviceId, Document, DocumentError, Patch};
use serde_json::Value;

use crate::service::names::texts;
use crate::service::{Kept, Service};
use crate::{ChangeLine, ChangedLine, Failure, TextDiff, Which};

/// Which changes, and what of them.
pub(super) struct Wanted {
    /// Only so many of the last.
    pub(super) last: Option<u64>,
    /// With what each changed.
    pub(super) patches: bool,
    /// The newest first.
    pub(super) reverse: bool,
}

impl Service {
    pub(super) async fn log(&self, kept: &Kept, which: &Which, wanted: Wanted) -> Result<Vec<ChangeLine>, Failure> {
        let document = self.document(kept, which).await?;
        let peer = self.peer().clone();
        self.blocking_while_wanted(move |is_wanted| {
            let mut history = document.history()?;
            let last = wanted.last.and_then(|last| usize::try_from(last).ok()).unwrap_or(usize::MAX);
            history.drain(..history.len().saturating_sub(last));
            if wanted.reverse {
                history.reverse();
            }
            let name = |device: &DeviceId| peer.device_name(device);
            let line = |change: ChangeInfo| {
                let patches = wanted.patches.then(|| difference(&document, &change.deps, &[change.hash]));
                Ok(ChangeLine {
                    hash: change.hash.to_string(),
                    actor: change.actor.to_string(),
                    device: change.device.map(|device| device.to_string()),
                    device_name: change.device.as_ref().and_then(name),
                    seq: change.seq,
                    wall_s: change.wall_s,
                    deps: texts(&change.deps),
                    ops: change.ops,
                    patches: patches.transpose()?,
                })
            };
            // With what each changed it may take long.
            history.into_iter().take_while(|_| is_wanted()).map(line).collect()
        })
        .await?
    }

    pub(super) async fn diff(
        &self,
        kept: &Kept,
        which: &Which,
        from: &[String],
        to: &[String],
        line_by_line: bool,
    ) -> Result<ChangedLine, Failure> {
        let document = self.document(kept, which).await?;
        let from = self.versions(&document, from).await?;
        let to = if to.is_empty() { document.heads()? } else { self.versions(&document, to).await? };
        self.blocking(move || {
            Ok(ChangedLine {
                document: document.id().to_string(),
                patches: difference(&document, &from, &to)?,
                heads: texts(&to),
                by: Vec::new(),
                texts: if line_by_line { text_diffs(&document, &from, &to)? } else { Vec::new() },
            })
        })
        .await?
    }
}

/// What leads from one version to another.
fn difference(document: &Document, from: &[ChangeHash], to: &[ChangeHash]) -> Result<Vec<Value>, Failure> {
    let patches = document.read_at(to, |view| view.diff(from))?;
    let patches = patches.map_err(|unknown| DocumentError::UnknownHeads(unknown.0))?;
    Ok(patches.iter().map(Patch::to_json).collect())
}

/// The texts of several lines that differ between two versions.
fn text_diffs(document: &Document, from: &[ChangeHash], to: &[ChangeHash]) -> Result<Vec<TextDiff>, Failure> {
    let changes = document.read_at(to, |view| view.texts_changed(from))?;
    let mut changes = changes.map_err(|unknown| DocumentError::UnknownHeads(unknown.0))?;
    changes.retain(|change| change.old != change.new && (change.old.contains('\n') || change.new.contains('\n')));
    Ok(changes.iter().map(|change| TextDiff { path: change.path.to_string(), lines: change.unified() }).collect())
}
