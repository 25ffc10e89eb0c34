//! Checkpoints, which CRIU makes. `start` restores a container that was created from images.

use std::fs;
use std::path::Path;

use libcontainer::{Afterwards, Allow, CgroupMode, Images};
use prost::Message as _;

use crate::container::Stage;
use crate::failure::{Answer, Code, failure, of_runtime};
use crate::messages::events;
use crate::messages::runc::CheckpointOptions;
use crate::messages::task::CheckpointTaskRequest;
use crate::reply::Reply;
use crate::shim::Shim;

/// The default directory for CRIU's work: in the bundle, which is removed with the container.
const WORK: &str = "criu-work";

/// Images at `path`, and where CRIU writes its log.
pub fn images(path: &Path, work: &str, bundle: &Path) -> Images {
    let work = if work.is_empty() { bundle.join(WORK) } else { work.into() };
    Images::new(path).work(work)
}

/// The options of the caller.
fn allowed(mut images: Images, options: &CheckpointOptions) -> Answer<Images> {
    let switches = [
        (options.open_tcp, Allow::TcpEstablished),
        (options.external_unix_sockets, Allow::ExternalUnixSockets),
        (options.terminal, Allow::ShellJob),
        (options.file_locks, Allow::FileLocks),
    ];
    for (_, what) in switches.into_iter().filter(|(on, _)| *on) {
        images = images.allow(what);
    }
    match (&*options.cgroups_mode, CgroupMode::named(&options.cgroups_mode)) {
        ("", _) => Ok(images),
        (_, Some(mode)) => Ok(images.cgroups(mode)),
        (other, None) => Err(failure(Code::InvalidArgument, format_args!("cgroups mode {other}: unknown value"))),
    }
}

impl Shim {
    pub(crate) fn checkpoint(&mut self, reply: Reply, asked: CheckpointTaskRequest) -> Answer<()> {
        let share = self.room.take(asked.encoded_len())?;
        let container = self.container(&asked.id)?;
        if container.init.stage != Stage::Running {
            return Err(failure(Code::FailedPrecondition, "cannot checkpoint a container that does not run"));
        }
        let options = CheckpointOptions::decode(&*asked.options.unwrap_or_default().value)
            .map_err(|error| failure(Code::InvalidArgument, format_args!("Checkpoint: {error}")))?;
        let (at, bundle) = (container.at.clone(), container.bundle.clone());
        // containerd 1.x knows this option only for runc: it then names a directory of its own, and the caller finds no images
        let path = if options.image_path.is_empty() { asked.path } else { options.image_path.clone() };
        let images = allowed(images(Path::new(&path), &options.work_path, &bundle), &options)?;
        let afterwards = if options.exit { Afterwards::Deleted } else { Afterwards::Running };
        self.jobs.begin(move || {
            let done = at.checkpoint(images, afterwards);
            drop(share);
            if done.is_ok() {
                // after a failure the files stay for the administrator
                let _ = fs::remove_dir_all(bundle.join(WORK));
            }
            Box::new(move |shim| {
                if done.is_ok() {
                    shim.publish(&events::TaskCheckpointed { container_id: asked.id, checkpoint: path });
                }
                let done = done.map(|()| Vec::new());
                shim.answer(reply, done.map_err(|error| of_runtime("OCI runtime checkpoint failed", &error)));
            })
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_cgroups_mode_is_refused() {
        let read = |mode: &str| {
            let options = CheckpointOptions { cgroups_mode: mode.into(), ..CheckpointOptions::default() };
            allowed(Images::new("/images"), &options).map(drop).map_err(|status| status.message)
        };
        assert_eq!(["", "soft", "full", "strict", "ignore"].map(read), [const { Ok(()) }; 5]);
        assert_eq!(read("other"), Err("cgroups mode other: unknown value".into()));
    }
}
