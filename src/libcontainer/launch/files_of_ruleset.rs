//! The files at the paths of a Landlock ruleset. The first process finds them, before the program can change anything. A
//! later process must find the same files.

use std::os::fd::OwnedFd;

use super::open::Opened;
use crate::error::{Context, Result};
use crate::plan::step::{FILE_ID_SIZE, Slot};
use crate::plan::{Opening, Plan};

impl Opened {
    /// The file in memory in which both write and read them. None without a ruleset.
    fn ruleset_file(&self, plan: &Plan) -> Result<Option<&OwnedFd>> {
        let slot = plan.openings.iter().position(|(opening, _)| *opening == Opening::FilesOfRuleset);
        slot.map(|slot| self.fd(Slot(slot))).transpose()
    }

    /// The device and inode number of each file, as the first process has written them. 0 if a path did not exist.
    ///
    /// # Errors
    /// Those of pread(2).
    pub(super) fn files_of_ruleset(&self, plan: &Plan) -> Result<Vec<(u64, u64)>> {
        let Some(file) = self.ruleset_file(plan)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        loop {
            let mut one = [0u8; FILE_ID_SIZE];
            let offset = (all.len() * FILE_ID_SIZE) as u64;
            if rustix::io::pread(file, &mut one, offset).context("read the files of the ruleset")? < FILE_ID_SIZE {
                return Ok(all);
            }
            let number = |half: Option<&[u8; 8]>| half.map_or(0, |half| u64::from_ne_bytes(*half));
            all.push((number(one.first_chunk()), number(one.last_chunk())));
        }
    }

    /// Writes the files that the first process has found, for a later process.
    ///
    /// # Errors
    /// Those of pwrite(2).
    pub fn write_files_of_ruleset(&self, known: &[(u64, u64)], plan: &Plan) -> Result<()> {
        let Some(file) = self.ruleset_file(plan)? else { return Ok(()) };
        for (nth, (device, inode)) in known.iter().enumerate() {
            let one = [device.to_ne_bytes(), inode.to_ne_bytes()].concat();
            rustix::io::pwrite(file, &one, (nth * FILE_ID_SIZE) as u64).context("write the files of the ruleset")?;
        }
        Ok(())
    }
}
