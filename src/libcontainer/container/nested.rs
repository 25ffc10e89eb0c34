//! Containers inside another container's cgroup, for example those of an engine that runs in it.

use std::path::PathBuf;

use super::{Container, Root};
use crate::cgroup::Cgroup;
use crate::error::Result;

impl Container {
    /// The containers of the same root that have processes in cgroups below its own, with those directories. Containers with the
    /// same cgroup share its processes.
    ///
    /// # Errors
    /// The root cannot be read.
    pub(crate) fn nested(&self) -> Result<Vec<(String, Vec<PathBuf>)>> {
        let own = &self.record.cgroup_paths;
        let mut nested = Vec::new();
        let Some(root) = self.directory.parent().map(Root::open).transpose()? else { return Ok(nested) };
        for id in root.ids()?.into_iter().filter(|id| *id != self.record.id) {
            // One that is being made or deleted, or is damaged.
            let Ok(other) = root.load(&id) else { continue };
            let below = |(key, path): (&String, &PathBuf)| {
                let top = own.get(key).filter(|top| !top.as_os_str().is_empty())?;
                (path != top && path.starts_with(top)).then(|| path.clone())
            };
            let below: Vec<_> = other.record.cgroup_paths.iter().filter_map(below).collect();
            if !below.is_empty() && other.cgroup().all_processes().map_or(true, |pids| !pids.is_empty()) {
                nested.push((id, below));
            }
        }
        Ok(nested)
    }

    /// `cgroup`, which is its own, without those of other containers.
    ///
    /// # Errors
    /// The root cannot be read.
    pub(crate) fn without_nested(&self, cgroup: Cgroup) -> Result<Cgroup> {
        Ok(cgroup.sparing(self.nested()?.into_iter().flat_map(|(_, directories)| directories)))
    }
}
