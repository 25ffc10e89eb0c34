//! The mounts that were added to a container while it ran (`mounts add`). They are in its own mount namespace. A file in its directory
//! lists them, so that only these are removed.

use super::directory::{Lock, Unread};
use crate::error::{Result, error};
use crate::sys::mount_id::MountId;

/// The file.
const ADDED: &str = "added-mounts";

impl Lock {
    /// The mounts that were added while it ran.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn added_mounts(&self) -> Result<Vec<MountId>> {
        match self.read(ADDED) {
            Ok(text) => Ok(text.chunks_exact(MountId::SIZE).filter_map(MountId::decode).collect()),
            Err(Unread::Absent) => Ok(Vec::new()),
            Err(Unread::Damaged(why)) => Err(error!("read {}: {why}", self.path().join(ADDED).display())),
            Err(Unread::Failed(error)) => Err(error!("read {}: {error}", self.path().join(ADDED).display())),
        }
    }

    /// Writes the list of these mounts.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn save_added_mounts(&self, mounts: &[MountId]) -> Result<()> {
        self.write(ADDED, &mounts.iter().flat_map(MountId::encode).collect::<Vec<u8>>())
    }
}
