//! When the copy of the spaces beside a store is compared with it, merged into it, and written.

use std::path::PathBuf;

use anabranch_engine::id::DeviceId;
use anabranch_engine::storage::{Image, Row, Table};
use redb::Database;
use tracing::warn;

use crate::error::{Refused, Trouble};
use crate::keepsake::{self, Copied, Keepsake, Origin};
use crate::standing::Standing;
use crate::{execute, format};

/// The copy of a directory's store. While nothing is written to the store, nothing is written here.
#[derive(Debug)]
pub(crate) struct Copy {
    directory: PathBuf,
    device: DeviceId,
    keepsake: Option<Keepsake>,
}

impl Copy {
    pub(crate) fn new(directory: PathBuf, device: DeviceId) -> Self {
        Self { directory, device, keepsake: None }
    }

    /// Reads the image of a store that was just opened, and merges into it what only its copy knows.
    pub(crate) fn begin(&mut self, standing: &Standing, copied: &Copied) -> Result<Image, Refused> {
        let (image, version) = standing.consult(image_and_version)?;
        if let Some(found) = copied.owner(Origin::of(self.device, &image, version)) {
            return Err(Refused::OtherDevice { found, ours: self.device });
        }
        if standing.halted().is_some() {
            return Ok(image);
        }
        let rows = copied.beyond(Origin::of(self.device, &image, version), &image);
        if rows.is_empty() {
            self.keep(copied, &image, version);
            return Ok(image);
        }
        let spaces = rows.iter().filter(|row| row.table == Table::Spaces).count();
        warn!(spaces, rows = rows.len(), "the copy of the spaces knows more than the store; it is merged into it");
        standing.consult(|database| execute::take_over(database, &rows, copied.version()))?;
        let (image, version) = standing.consult(image_and_version)?;
        self.keep(copied, &image, version);
        Ok(image)
    }

    /// Begins to write it. What is there and is not of this store is kept.
    fn keep(&mut self, copied: &Copied, image: &Image, version: u64) {
        if copied.is_of_no_use() {
            match keepsake::set_aside(&self.directory) {
                Ok(aside) => {
                    warn!(kept = %aside.display(), "the copy of the spaces is damaged or of another device; it is kept aside");
                }
                Err(error) => {
                    return warn!(%error, "the copy of the spaces is of no use and cannot be moved aside; none is kept");
                }
            }
        }
        let origin = Origin::of(self.device, image, version);
        self.keepsake = Some(Keepsake::of(&self.directory, origin, image));
    }

    /// Takes note of a commit that is on disk.
    pub(crate) fn committed(&mut self, rows: &[Row]) {
        if let Some(keepsake) = &mut self.keepsake {
            keepsake.committed(rows);
        }
    }

    /// The store is written to again; these rows were, just now.
    pub(crate) fn resumed(&mut self, standing: &Standing, rows: &[Row]) {
        if self.keepsake.is_some() {
            return self.committed(rows);
        }
        let Ok((image, version)) = standing.read(image_and_version) else { return };
        let copied = Copied::read(&self.directory, self.device);
        if copied.beyond(Origin::of(self.device, &image, version), &image).is_empty() {
            self.keep(&copied, &image, version);
        } else {
            // The engine has read its image: the next start merges it.
            warn!("the copy of the spaces knows more than the store; it is left as it is until the next start");
        }
    }

    /// Removes the file.
    pub(crate) fn remove(self) -> std::io::Result<()> {
        keepsake::remove(&self.directory)
    }

    pub(crate) fn write(&mut self) {
        if let Some(keepsake) = &mut self.keepsake {
            keepsake.write();
        }
    }
}

fn image_and_version(database: &Database) -> Result<(Image, u64), Trouble> {
    Ok((execute::image(database)?, format::spaces_version(database)?))
}
