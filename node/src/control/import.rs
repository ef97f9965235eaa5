//! Importing JSON of any size: what does not fit into one change becomes several, which are published together.

use anabranch::{Path, import};
use serde_json::Value;

use crate::control::Control;
use crate::control::documents::{blocking, object};
use crate::control::names::{Expect, texts};
use crate::failure::Failure;
use anabranch_protocol::{Edited, Which};

impl Control {
    /// Makes a document of `value`, or makes one say it: as a whole, or not at all.
    pub(super) async fn import(
        &self,
        space: Option<&str>,
        document: Option<&str>,
        name: Option<String>,
        value: Value,
    ) -> Result<Edited, Failure> {
        let mut members = object(value)?;
        if let Some(name) = name {
            members.insert("name".to_owned(), Value::String(name));
        }
        let document = match document {
            Some(text) => {
                let which = Which { space: space.map(str::to_owned), document: text.to_owned() };
                self.document(&mut None, &which, Expect::Any).await?
            }
            None => self.space(space)?.create_document().await?,
        };
        let editing = document.clone();
        let (heads, changes) = blocking(move || {
            let steps = import::steps(Path::root(), Value::Object(members));
            let mut draft = editing.draft()?;
            for step in &steps {
                draft.edit(|edit| step.apply(edit))?;
            }
            draft.publish()?;
            Ok::<_, anabranch::DocumentError>((editing.heads()?, steps.len()))
        })
        .await??;
        document.saved().await?;
        Ok(Edited {
            space: document.space().id().to_string(),
            document: document.id().to_string(),
            heads: texts(&heads),
            edits: changes as u64,
            changes: changes as u64,
            saved: true,
        })
    }
}
