//! Somebody who only follows a document, and never reads it whole.

use anabranch_engine::document::{Followed, Json, Patch};
use anabranch_engine::id::ChangeHash;

/// A document as somebody has it who only follows it.
#[derive(Debug, Clone)]
pub struct Following {
    heads: Vec<ChangeHash>,
    content: Json,
}

impl Default for Following {
    fn default() -> Self {
        Self { heads: Vec::new(), content: Json::Object(Default::default()) }
    }
}

impl Following {
    /// The version that was seen last.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// The content, as it follows from all patches so far.
    pub fn content(&self) -> &Json {
        &self.content
    }

    /// Takes what is new since [`Self::heads`].
    ///
    /// # Errors
    /// A patch does not fit, or does not come.
    pub fn take(&mut self, news: &Followed) -> Result<(), String> {
        match news {
            Followed::Steps(steps) => steps.iter().try_for_each(|step| self.go_on(&step.patches, &step.heads)),
            Followed::Compare(snapshot) => {
                let view = snapshot.view();
                let patches = view.diff(&self.heads).map_err(|unknown| unknown.to_string())?;
                self.go_on(&patches, &view.heads())
            }
        }
    }

    fn go_on(&mut self, patches: &[Patch], heads: &[ChangeHash]) -> Result<(), String> {
        for patch in patches {
            patch.apply(&mut self.content).map_err(|misfit| misfit.to_string())?;
        }
        self.heads = heads.to_vec();
        Ok(())
    }
}
